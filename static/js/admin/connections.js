/** Connections: asked of the server page by page, so that a hundred thousand are as quick as ten. */
import { api, apiPage } from '../api.js';
import { formatNumber, t } from '../i18n.js';
import { deviceName } from '../agent.js';
import { checkChannel } from '../rules.js';
import { stats } from './stream.js';
import { Action, attempt, confirmed, Field, formatBytes, html, List, live, Moment, moments, opened, pages, signal } from './ui.js';

const PAGE = 50;
const SELF_REFRESH = 2000; // connections up to which the list is asked for again by itself

const search = signal('');
const transport = signal('');
/** Whose connections are shown; none: all. */
const channel = signal('');
/** The one whose details are shown. @type {import('./ui.js').Signal<any>} */
const chosen = signal(undefined);

const list = pages(() => {
  const query = new URLSearchParams({ limit: String(PAGE) });
  if (search.peek()) query.set('q', search.peek());
  if (transport.peek()) query.set('transport', transport.peek());
  if (channel.peek()) query.set('channel', channel.peek());
  return `api/connections?${query}`;
}, apiPage);

/** @type {Record<string, string>} */
const TRANSPORTS = {
  sse: 'admin.transport.sse',
  websocket: 'admin.transport.websocket',
  'socket.io': 'admin.transport.socketio',
};
/** @type {Record<string, string>} */
const STATUSES = {
  connected: 'admin.connections.connected',
  reconnecting: 'admin.connections.reconnecting',
  disconnected: 'admin.connections.disconnected',
};

/** @param {string} name */
const transportName = (name) => (TRANSPORTS[name] ? t(TRANSPORTS[name]) : name);

/** @type {ReturnType<typeof setTimeout> | undefined} */
let typing;

/** @param {any} event */
function onSearch(event) {
  search.value = event.target.value;
  clearTimeout(typing);
  typing = setTimeout(list.first, 300);
}

/** @param {any} event */
function onTransport(event) {
  transport.value = event.target.value;
  void list.first();
}

/** Show who is on a channel. @param {string} name */
export function onChannel(name) {
  channel.value = name;
}

/** @param {any} event */
function onChannelField({ target }) {
  if (!checkChannel(target)) return;
  onChannel(target.value.trim());
  void list.first();
}

/** Those of a connection in a line. @param {string[]} names */
const channelNames = ([first, ...others]) => (first === undefined ? '–' : others.length ? `${first} +${formatNumber(others.length)}` : first);

/** @param {any} row */
async function kick(row) {
  const name = row.username ?? row.clientId;
  if (!(await confirmed(t('admin.kick.title'), t('admin.kick.text', { name }), t('admin.kick.button')))) return;
  await attempt(
    () => api('DELETE', `api/connections/${encodeURIComponent(row.clientId)}`),
    () => t('admin.kick.done', { name }),
  );
  chosen.value = undefined;
  setTimeout(list.refresh, 500); // the order reaches the node that holds it by the log
}

/** Everything about one connection. */
const Details = live(() => {
  const row = chosen.value;
  if (!row) return null;
  const facts = [
    [t('admin.connections.client'), html`<code>${row.clientId}</code>`],
    [t('admin.connections.user'), row.username ?? '–'],
    [t('admin.connections.transport'), transportName(row.transport)],
    [t('admin.connections.status'), STATUSES[row.status] ? t(STATUSES[row.status]) : row.status],
    [t('admin.connections.address'), row.ipAddress],
    [t('admin.connections.agent'), row.userAgent || '–'],
    [t('admin.connections.channels'), row.channels.length ? row.channels.join(', ') : '–'],
    [t('admin.connections.since'), html`<${Moment} at=${row.connectedAt} exact />`],
    [t('admin.connections.ping'), html`<${Moment} at=${row.lastPing} exact />`],
    [t('admin.connections.count'), formatNumber(row.messageCount)],
    [t('admin.connections.bytes'), formatBytes(row.bytesSent)],
    [t('admin.connections.lag'), formatNumber(row.lag)],
    [t('admin.connections.node'), html`<code>${row.node}</code>`],
  ];
  return html`
    <dialog ref=${opened} onClose=${() => (chosen.value = undefined)} aria-labelledby="details-title">
      <h2 id="details-title">${t('admin.connections.details')}</h2>
      <dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
      <form method="dialog" class="actions">
        <button type="button" class="danger" onClick=${() => kick(row)}>${t('admin.kick.button')}</button>
        <button>${t('notice.close')}</button>
      </form>
    </dialog>
  `;
});

/** @type {import('./ui.js').Column[]} */
const COLUMNS = [
  ['admin.connections.client', (row) => html`<button type="button" class="link" onClick=${() => (chosen.value = row)}><code>${row.clientId}</code></button>`, ({ clientId }) => clientId],
  ['admin.connections.user', ({ username }) => username ?? '–', ({ username }) => username],
  ['admin.connections.transport', (row) => transportName(row.transport), (row) => transportName(row.transport)],
  ['admin.connections.channels', ({ channels }) => html`<span title=${channels.length > 1 ? channels.join(', ') : undefined}>${channelNames(channels)}</span>`, ({ channels }) => channels[0], 'names'],
  ['admin.connections.address', ({ ipAddress }) => ipAddress, ({ ipAddress }) => ipAddress],
  ['admin.connections.device', ({ userAgent }) => deviceName(userAgent) || '–', ({ userAgent }) => deviceName(userAgent)],
  moments('admin.connections.since', 'connectedAt'),
  ['admin.connections.count', ({ messageCount }) => formatNumber(messageCount), ({ messageCount }) => messageCount, 'num'],
  ['admin.actions', (row) => html`<button type="button" class="small danger" onClick=${() => kick(row)} aria-label=${t('admin.kick.label', { name: row.clientId })}>${t('admin.kick.button')}</button>`, null, 'num'],
];

const Total = live(() => {
  const { data } = list.state.value;
  return html`<p class="hint" role="status">${data && t('admin.connections.total', { count: data.total })}</p>`;
});

export const Connections = live(
  () => html`
    <div class="filters" role="search">
      <${Field} id="connection-search" label=${t('admin.search')} hint=${t('admin.connections.searchHint')}>
        <input id="connection-search" type="search" value=${search.peek()} onInput=${onSearch} aria-describedby="connection-search-hint" />
      </>
      <${Field} id="connection-transport" label=${t('admin.connections.transport')}>
        <select id="connection-transport" value=${transport.value} onChange=${onTransport}>
          <option value="">${t('admin.all')}</option>
          ${Object.keys(TRANSPORTS).map((name) => html`<option value=${name}>${transportName(name)}</option>`)}
        </select>
      </>
      <${Field} id="connection-channel" label=${t('admin.channels.name')}>
        <input id="connection-channel" type="search" value=${channel.value} onChange=${onChannelField} spellcheck="false" autocapitalize="none" placeholder=${t('admin.all')} aria-describedby="connection-channel-error" />
      </>
      <${Action} act=${list.refresh}>${t('admin.refresh')}</>
    </div>
    <${Total} />
    <section class="card stack">
      <${List} of=${list} name="connections" label=${t('admin.nav.connections')} columns=${COLUMNS} empty=${t('admin.connections.none')} />
    </section>
    <${Details} />
  `,
);

export const enter = list.first;

/** While the section is open; a very long list only by the button. */
export function look() {
  const { busy, data } = list.state.peek();
  if (!busy && (data?.total ?? 0) <= SELF_REFRESH && (stats.peek()?.activeConnections ?? 0) <= SELF_REFRESH) void list.refresh();
}

export const leave = () => {
  chosen.value = undefined;
  list.forget();
};
