/** The dashboard's one stream: the statistics of each second, kept for five minutes, and its state. */
import { api, ROOT } from '../api.js';
import { t } from '../i18n.js';
import { connect } from '../rt.js';
import { refresh, whoIAm } from '../session.js';
import { batch, html, live, resource, setClock, signal } from './ui.js';

const KEPT = 300; // seconds
const PAUSE = 150; // seconds without a stored minute: then nothing ran
const CHANNEL = 'sys:stats';

/** @typedef {Record<string, any>} Stats */
/** One moment of the charts. @typedef {{ at: number, values: Record<string, number> }} Sample */
/** @template T @typedef {import('./ui.js').Signal<T>} Signal */

/** The newest. @type {Signal<Stats | undefined>} */
export const stats = signal(undefined);
/** The last five minutes, oldest first. @type {Signal<Sample[]>} */
export const recent = signal([]);
/** @type {Signal<{ state: import('../rt.js').State, detail: import('../rt.js').Detail, since: number }>} */
export const link = signal({ state: 'connecting', detail: {}, since: Date.now() });
const now = signal(Date.now());

const rt = connect(ROOT, { channels: [CHANNEL], attempts: Infinity });
rt.close(); // until it is known who asks
for (const state of /** @type {const} */ (['connecting', 'open', 'reconnecting', 'closed'])) {
  rt.on(state, (detail) => {
    link.value = { state, detail, since: Date.now() };
    if (state === 'closed' && detail.error?.status === 401) void refresh();
    if (state === 'open') void api('GET', 'api/stats?recent=1').then(fill, () => {}); // then the charts begin empty
  });
}
rt.on('stats', (data, { channel }) => channel === CHANNEL && take(data));

/** What `recent` is made of. @type {Stats[]} */
let kept = [];

/** Keep what a second brought. @param {Stats} next */
export function take(next) {
  const before = kept.at(-1);
  setClock(Date.parse(next.timestamp));
  kept = [...kept, next].slice(-KEPT);
  batch(() => {
    stats.value = next;
    recent.value = [...recent.peek(), sample(next, before)].slice(-KEPT);
  });
}

/**
 * Keep also what the server has kept, as of before the stream or of a gap in it. Another node's
 * counters are others.
 * @param {Stats} answer
 */
export function fill({ recent: rows = [], nodes }) {
  const [before] = kept.filter(({ timestamp }) => timestamp > rows.at(-1)?.timestamp);
  if (!rows.length || (before && before.nodes?.[0]?.node !== nodes?.[0]?.node)) return;
  const until = Date.parse(rows.at(-1)?.timestamp) + 500; // the second that both have stands once
  const older = kept.filter(({ timestamp }) => timestamp < rows[0].timestamp);
  const newer = kept.filter(({ timestamp }) => Date.parse(timestamp) > until);
  kept = [...older, ...rows, ...newer].slice(-KEPT);
  recent.value = kept.map((row, at) => sample(row, kept[at - 1]));
}

/**
 * Rates are of the time since the statistics before, of the same node; a counter that fell began anew.
 * @param {Stats} next
 * @param {Stats} [before]
 * @returns {Sample}
 */
function sample(next, before) {
  const at = Date.parse(next.timestamp) / 1000;
  const isSame = before?.nodes?.[0]?.node === next.nodes?.[0]?.node;
  const seconds = before && isSame ? at - Date.parse(before.timestamp) / 1000 : 0;
  const rate = (/** @type {string} */ name) =>
    before && seconds > 0 ? Math.max(0, (next[name] - before[name]) / seconds) : 0;
  return { at, values: { ...common(next), messages: rate('messagesSent'), deliveries: rate('deliveries') } };
}

/** What the live statistics and a minute's row name alike. @param {Stats} row */
function common({ transports = {}, publishLatencyMs = {}, memoryBytes, cpuPercent }) {
  return {
    sse: transports.sse ?? 0,
    websocket: transports.websocket ?? 0,
    socketio: transports['socket.io'] ?? 0,
    p50: publishLatencyMs.p50 ?? 0,
    p99: publishLatencyMs.p99 ?? 0,
    memory: memoryBytes ?? 0,
    cpu: cpuPercent ?? 0,
  };
}

/** How far the charts look back. */
export const minutes = signal(5);

/** That time, from a row a minute and node; where none was written for a while there is a sample without values. */
export const history = resource(async () => {
  const rows = await api('GET', `api/stats/history?minutes=${minutes.peek()}`);
  /** @type {Map<string, Sample>} */
  const sums = new Map();
  for (const row of rows) {
    const values = { ...common(row), messages: row.messagesPerSecond, deliveries: row.deliveriesPerSecond };
    const sum = sums.get(row.minute);
    if (sum) merge(sum.values, values);
    else sums.set(row.minute, { at: Date.parse(row.minute) / 1000, values });
  }
  return [...sums.values()].flatMap((one, at, all) => (at && one.at - all[at - 1].at > PAUSE ? [{ at: all[at - 1].at + 60, values: {} }, one] : [one]));
});

/** Of several nodes counts add up, and of latencies the worst counts. @param {Record<string, number>} sum @param {Record<string, number>} more */
function merge(sum, more) {
  for (const [name, value] of Object.entries(more)) {
    sum[name] = name === 'p50' || name === 'p99' ? Math.max(sum[name], value) : sum[name] + value;
  }
}

export function openStream() {
  if (rt.state === 'closed') rt.retryNow();
}

/** And forget what it told. */
export function closeStream() {
  rt.close();
  stats.value = undefined;
  recent.value = [];
  kept = [];
}

setInterval(() => {
  if (link.peek().state === 'reconnecting') now.value = Date.now();
}, 1000);

/** Why there is no connection, by the code of an error. @type {Record<string, string>} */
const REASONS = {
  unreachable: 'admin.lost.unreachable',
  ended: 'admin.lost.ended',
  silent: 'admin.lost.silent',
  rate_limited: 'admin.lost.busy',
  too_many_connections: 'admin.lost.busy',
  stopping: 'admin.lost.ended',
};

/** A lost connection, with its reason and when it is tried again. */
export const LostBanner = live(() => {
  const { state, detail, since } = link.value;
  if (state === 'open' || state === 'connecting' || !whoIAm()?.authenticated) return null;
  const { error, delay = 0 } = detail;
  const key = error && REASONS[error.code];
  const wait = Math.max(0, Math.ceil((since + delay - Math.max(now.value, since)) / 1000));
  return html`
    <div class="banner warn lost" role="alert">
      <p class="title">${t(state === 'closed' ? 'admin.lost.closed' : 'admin.lost.title')}</p>
      ${key ? html`<p class="body">${t(key)}</p>` : error?.message && html`<p class="body" lang="en">${error.message}</p>`}
      <p class="row body">
        ${state === 'reconnecting' && html`<span aria-live="off">${t('admin.lost.wait', { count: wait })}</span>`}
        <button type="button" class="small" onClick=${() => rt.retryNow()}>${t('admin.lost.now')}</button>
      </p>
    </div>
  `;
});

/** The connection's state in a word. */
export const LinkState = live(() => {
  const { state } = link.value;
  return html`<p class="status" role="status" data-state=${state} id="state">${t(STATES[state])}</p>`;
});

/** @type {Record<import('../rt.js').State, string>} */
const STATES = {
  connecting: 'state.connecting',
  open: 'state.open',
  reconnecting: 'state.reconnecting',
  closed: 'state.closed',
};
