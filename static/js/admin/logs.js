/** The event log: by level, text and time, counted over time, followed, exported, cleared. */
import { api, apiPage, ROOT } from '../api.js';
import { formatDate, t } from '../i18n.js';
import { entries, translated } from './texts.js';
import { Action, attempt, brief, confirmed, Field, html, List, live, Moment, pages, resource, Shown, signal } from './ui.js';

const LEVELS = ['INFO', 'CONN', 'MSG', 'WARN', 'ERROR'];
/** @type {Record<string, string>} */
const NAMES = {
  INFO: 'admin.level.info',
  CONN: 'admin.level.conn',
  MSG: 'admin.level.msg',
  WARN: 'admin.level.warn',
  ERROR: 'admin.level.error',
};
/** @type {Record<string, string>} */
const COLORS = { INFO: 'info', CONN: 'accent', MSG: 'ok', WARN: 'warn', ERROR: 'error' };
const BUCKETS = 60;

const filter = signal({ level: '', q: '', since: '', until: '' });
const follows = signal(true);

/** @param {Record<string, string>} [more] */
function query(more = {}) {
  const { level, q, since, until } = filter.peek();
  const found = new URLSearchParams(more);
  if (level) found.set('level', level);
  if (q) found.set('q', q);
  if (since) found.set('since', new Date(since).toISOString());
  if (until) found.set('until', new Date(until).toISOString());
  return found;
}

const list = pages(() => `api/logs?${query({ limit: '50' })}`, apiPage, ({ metadata }) => Object.keys(metadata ?? {}).length);
const counted = resource(() => api('GET', `api/logs/histogram?${query({ buckets: String(BUCKETS) })}`));

/** @type {ReturnType<typeof setTimeout> | undefined} */
let typing;

/** @param {Record<string, string>} change @param {number} [wait] ms */
function narrow(change, wait = 0) {
  filter.value = { ...filter.peek(), ...change };
  clearTimeout(typing);
  typing = setTimeout(ask, wait);
}

/** Show the entries of one level. @param {string} level */
export function showLevel(level) {
  filter.value = { level, q: '', since: '', until: '' };
  void enter();
}

async function clear() {
  if (!(await confirmed(t('admin.logs.clearTitle'), t('admin.logs.clearText'), t('admin.logs.clear')))) return;
  await attempt(() => api('DELETE', 'api/logs'), () => t('admin.logs.cleared'));
  await enter();
}

/** @param {any} props */
function Histogram({ since, width, buckets }) {
  const start = Date.parse(since);
  const spans = buckets.map((/** @type {any} */ span) => ({
    at: Math.round((Date.parse(span.timestamp) - start) / width),
    total: LEVELS.reduce((sum, level) => sum + (span[level] ?? 0), 0),
    span,
  }));
  const most = Math.max(1, ...spans.map((/** @type {any} */ { total }) => total));
  const sum = spans.reduce((/** @type {number} */ all, /** @type {any} */ { total }) => all + total, 0);
  const text = t('admin.logs.histogram', { count: sum, from: formatDate(start), most });
  return html`
    <figure class="histogram">
      <svg viewBox="0 0 ${BUCKETS * 10} 60" preserveAspectRatio="none" role="img" aria-label=${text}>
        ${spans.map((/** @type {any} */ { at, span }) => bars(at, span, most))}
      </svg>
      <figcaption class="row end hint">
        <span>${formatDate(start)}</span><span>${formatDate(start + width * BUCKETS)}</span>
      </figcaption>
    </figure>
  `;
}

/** One span's bars, one level upon the other. @param {number} at @param {any} span @param {number} most */
function bars(at, span, most) {
  let top = 60;
  return LEVELS.filter((level) => span[level]).map((level) => {
    const height = (span[level] / most) * 58;
    top -= height;
    const pick = () => {
      const from = Date.parse(span.timestamp);
      const width = counted.state.peek().data.width;
      narrow({ since: localTime(from), until: localTime(from + Math.max(width, 60_000)) });
    };
    return html`<rect class="bar ${COLORS[level]}" x=${at * 10 + 1} y=${top} width="8" height=${height} onClick=${pick} />`;
  });
}

/** As a `datetime-local` field takes it. @param {number} at ms */
function localTime(at) {
  const date = new Date(at - new Date(at).getTimezoneOffset() * 60_000);
  return date.toISOString().slice(0, 16);
}

/** An entry in the reader's language; the export has the server's words. */
const Words = live(({ message }) => {
  const { own, rest } = translated(message, entries.found.value);
  return html`<span title=${own && message}>${own}${rest && html`<span lang="en">${rest}</span>`}</span>`;
});

/** @param {any} props */
const Details = ({ metadata }) =>
  Object.entries(metadata ?? {}).map(
    ([key, value]) => html`<span class="pair-of"><span class="hint">${key}</span> <code>${brief(value, 80)}</code></span> `,
  );

const Filters = live(() => {
  const { level, q, since, until } = filter.value;
  const on = (/** @type {string} */ name, wait = 0) => (/** @type {any} */ event) => narrow({ [name]: event.target.value }, wait);
  return html`
    <div class="filters" role="search">
      <${Field} id="log-level" label=${t('admin.logs.level')}>
        <select id="log-level" value=${level} onChange=${on('level')}>
          <option value="">${t('admin.all')}</option>
          ${LEVELS.map((name) => html`<option value=${name}>${t(NAMES[name])}</option>`)}
        </select>
      </>
      <${Field} id="log-text" label=${t('admin.search')}>
        <input id="log-text" type="search" value=${q} onInput=${on('q', 300)} />
      </>
      <${Field} id="log-since" label=${t('admin.logs.since')}>
        <input id="log-since" type="datetime-local" value=${since} onChange=${on('since')} />
      </>
      <${Field} id="log-until" label=${t('admin.logs.until')}>
        <input id="log-until" type="datetime-local" value=${until} onChange=${on('until')} />
      </>
      <button type="button" onClick=${() => narrow({ level: '', q: '', since: '', until: '' })}>${t('admin.logs.all')}</button>
    </div>
  `;
});

const Tools = live(() => {
  const href = (/** @type {string} */ format) => new URL(`api/logs/export?${query({ format })}`, ROOT).href;
  void filter.value;
  return html`
    <div class="row end">
      <${Count} />
      <div class="row">
        <button type="button" class="small" aria-pressed=${String(follows.value)} onClick=${onFollow}>${t('admin.follow')}</button>
        <${Action} class="small" act=${enter}>${t('admin.refresh')}</>
        <a class="button small" href=${href('csv')} download>${t('admin.logs.csv')}</a>
        <a class="button small" href=${href('ndjson')} download>${t('admin.logs.ndjson')}</a>
        <button type="button" class="small danger" onClick=${clear}>${t('admin.logs.clear')}</button>
      </div>
    </div>
  `;
});

const Count = live(() => {
  const { data } = list.state.value;
  return html`<p class="hint">${data && t('admin.logs.count', { count: data.total })}</p>`;
});

function onFollow() {
  follows.value = !follows.peek();
  if (follows.peek()) void enter();
}

/** @type {import('./ui.js').Column[]} */
const COLUMNS = [
  ['admin.time', ({ timestamp }) => html`<${Moment} at=${timestamp} exact />`, ({ timestamp }) => Date.parse(timestamp)],
  ['admin.logs.level', ({ level }) => html`<span class="badge ${COLORS[level]}">${t(NAMES[level])}</span>`, ({ level }) => LEVELS.indexOf(level)],
  ['admin.logs.message', ({ message }) => html`<${Words} message=${message} />`, ({ message }) => message, 'wide'],
  ['admin.logs.details', ({ metadata }) => html`<${Details} metadata=${metadata} />`, null, 'wide'],
];

export const Logs = live(
  () => html`
    <${Filters} />
    <section class="card stack">
      <${Tools} />
      <${Shown} of=${counted}>${(/** @type {any} */ data) => html`<${Histogram} ...${data} />`}</>
      <${List} of=${list} name="logs" label=${t('admin.nav.logs')} columns=${COLUMNS} empty=${t('admin.logs.none')} compact />
    </section>
  `,
);

const ask = () => Promise.all([list.first(), counted.refresh()]);

export const enter = () => Promise.all([entries.load(), ask()]);

let turns = 0;
/** The list every other second, its count over time more seldom. */
export function look() {
  turns += 1;
  if (!follows.peek() || !list.isFirst() || list.state.peek().busy) return;
  if (turns % 2 === 0) void list.refresh();
  if (turns % 10 === 0) void counted.refresh();
}

export const leave = () => {
  list.forget();
  counted.forget();
};
