/** The console: live messages, a form to send one, and the same calls as code. */
import { api, ApiError, parsed, ROOT } from './api.js';
import { clearErrors, fieldError, wireForm } from './forms.js';
import { beginning, formatTime, onLanguage, t } from './i18n.js';
import { notice } from './notices.js';
import { banner, byId, copyFrom, errorBanner, h, serverWords } from './page.js';
import { CHANNEL, checkChannel, checkJson } from './rules.js';
import { connect, RtError } from './rt.js';
import { onSession, refresh, saysEnded, whoIAm } from './session.js';

const KEPT = 100; // messages in the list
const SHOWN = 10_000; // characters of one message
const GLANCE = 200; // of its line in the list
const DRAW_EVERY = 250; // ms, at most four times a second
const TOKEN_DAYS = 30;

/**
 * A row of the list: a message, or a note of the page's own where something may be missing.
 * @typedef {{ time: Date, event: string, id: string, text: string, glance: string, note?: string }} Row
 */

/** Be connected. */
export const open = () => rt.retryNow();

/** Nobody may listen now. */
export const close = () => rt.close();

/** Leave nothing on the screen for whoever comes next. */
export function forget() {
  rt.lastEventId = '';
  rt.channels.clear();
  listenForm.reset();
  form.reset();
  for (const each of [listenForm, form]) clearErrors(each);
  byId('result').textContent = '';
  example = '';
  token = '';
  renderExample();
  renderSnippets();
  clearMessages();
}

/**
 * The server ended the stream: because the session did, which the sign-in says, or else say why.
 * @param {() => HTMLElement} render
 */
async function explainEnd(render) {
  await refresh();
  if (rt.state === 'closed' && !byId('workspace').hidden) notice('stream', render);
}

// ---- live messages ---------------------------------------------------------------------------

/** Newest first. @type {Row[]} */
let rows = [];
/** What shows each of them. @type {HTMLLIElement[]} */
let items = [];
/** Not yet drawn, newest first. @type {Row[]} */
let waiting = [];
let received = 0;
let paused = false;
let drawnAt = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let drawing;
/** @type {Date | undefined} */
let heartbeatAt;

const rt = connect({ attempts: Infinity });
rt.close(); // until it is known who asks

/** @type {Record<import('./rt.js').State, string>} */
const STATES = {
  connecting: 'state.connecting',
  open: 'state.open',
  reconnecting: 'state.reconnecting',
  closed: 'state.closed',
};

for (const state of /** @type {import('./rt.js').State[]} */ (Object.keys(STATES))) {
  rt.on(state, onState);
}
rt.on('*', (data, { event = 'message', id = '' }) => {
  add({ time: new Date(), event, id, text: pretty(data), glance: beginning(JSON.stringify(data) ?? '', GLANCE) });
});
rt.on('connection', heartbeat);
rt.on('ping', heartbeat);
rt.on('reset', markGap);

/** @param {import('./rt.js').Detail} detail */
function onState({ reason, error }) {
  renderState();
  if (rt.state === 'open') {
    notice('stream');
    if (!whoIAm()) void refresh();
  }
  if (!error) return;
  const told = new ApiError({ ...error, title: error.message });
  if (reason === 'disconnected') {
    const words = error.message ? serverWords(error.message) : undefined;
    void explainEnd(() => banner('warn', t('live.disconnected'), words));
  } else if (error.status === 401) {
    void explainEnd(() => errorBanner(told));
  } else if (rt.state === 'closed' || error.status) {
    notice('stream', () => errorBanner(told));
  }
}

function heartbeat() {
  heartbeatAt = new Date();
  renderFacts();
}

/** Say once, where it happened, that messages may be missing. */
function markGap() {
  if ((waiting[0] ?? rows[0])?.note) return;
  add({ time: new Date(), event: '', id: '', text: '', glance: '', note: 'live.gap' });
}

/** @param {Row} row */
function add(row) {
  if (!row.note) received += 1;
  waiting.unshift(row);
  waiting.length = Math.min(waiting.length, KEPT);
  if (paused) renderCount();
  else drawing ??= setTimeout(draw, drawnAt + DRAW_EVERY - performance.now());
}

function draw() {
  clearTimeout(drawing);
  drawing = undefined;
  drawnAt = performance.now();
  const over = items.splice(KEPT - waiting.length);
  const added = waiting.map((row) => messageItem(row, over));
  for (const item of over) item.remove();
  byId('messages').prepend(...added);
  items = [...added, ...items];
  rows = [...waiting, ...rows].slice(0, KEPT);
  waiting = [];
  setStops();
  renderCount();
}

/**
 * What shows a message. Elements that show one no longer kept are taken for it: made anew for each,
 * they would pile up faster than a browser collects them.
 * @param {Row} row
 * @param {HTMLLIElement[]} [over] no longer needed; what is taken is taken out
 */
function messageItem({ time, event, id, text, glance, note }, over = []) {
  if (note) return h('li', { class: 'message', 'data-note': note }, h('p', { class: 'banner warn' }, t(note)));
  const at = over.findIndex((item) => !item.dataset.note);
  const item = at < 0 ? emptyItem() : over.splice(at, 1)[0];
  const [details] = /** @type {HTMLCollectionOf<HTMLDetailsElement>} */ (item.children);
  const [summary, number, body] = details.children;
  const [moment, name, line] = summary.children;
  details.open = false;
  moment.setAttribute('datetime', time.toISOString());
  name.className = event === 'message' ? 'badge' : 'badge accent';
  number.toggleAttribute('hidden', !id);
  setText(moment, formatTime(time));
  setText(name, event);
  setText(line, glance);
  setText(number, id);
  setText(body, text);
  return item;
}

function emptyItem() {
  const summary = h('summary', {}, h('time'), h('span'), h('span', { class: 'glance' }));
  return h('li', { class: 'message' }, h('details', {}, summary, h('code'), h('pre')));
}

/** Tab comes to the newest message, arrows lead on: a hundred stops would bar the way. */
function setStops() {
  const summaries = items.map((item) => item.querySelector('summary'));
  const first = summaries.find(Boolean);
  for (const one of summaries) if (one) one.tabIndex = one === first ? 0 : -1;
}

/** @param {KeyboardEvent} event */
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const all = [...byId('messages').querySelectorAll('summary')];
  const at = all.indexOf(/** @type {HTMLElement} */ (event.target));
  if (!step || at < 0) return;
  event.preventDefault();
  all[at + step]?.focus();
}

function renderState() {
  const element = byId('state');
  element.dataset.state = rt.state;
  element.textContent = t(STATES[rt.state]);
  byId('connect').textContent = t(rt.state === 'closed' ? 'live.connect' : 'live.disconnect');
  renderFacts();
  renderCount();
}

function renderFacts() {
  /** @type {[string, HTMLElement][]} */
  const facts = [];
  if (rt.state === 'open') facts.push(['live.clientId', h('code', {}, rt.clientId)]);
  if (heartbeatAt) {
    const time = h('time', { datetime: heartbeatAt.toISOString() }, formatTime(heartbeatAt));
    facts.push(['live.heartbeat', time]);
  }
  byId('facts').replaceChildren(
    ...facts.map(([key, value]) => h('div', {}, h('dt', {}, t(key)), h('dd', {}, value))),
  );
}

function renderCount() {
  const held = waiting.filter((row) => !row.note).length;
  byId('empty').hidden = rows.length > 0;
  setText(byId('empty'), t(rt.state === 'open' ? 'live.empty' : 'live.off'));
  const shown = paused && held ? t('live.held', { count: held }) : received ? t('live.count', { count: received }) : '';
  setText(byId('count'), shown);
}

/** @param {boolean} value */
function setPaused(value) {
  paused = value;
  byId('pause').setAttribute('aria-pressed', String(paused));
  if (paused) renderCount();
  else draw();
}

function clearMessages() {
  rows = [];
  items = [];
  waiting = [];
  received = 0;
  byId('messages').replaceChildren();
  renderCount();
}

const listenForm = /** @type {HTMLFormElement} */ (byId('listen'));
const channelsField = /** @type {HTMLInputElement} */ (byId('channels'));

const wantedChannels = () => channelsField.value.split(/[\s,]+/).filter(Boolean);

function checkChannels() {
  const wrong = wantedChannels().find((channel) => !CHANNEL.test(channel));
  if (wrong) fieldError(channelsField, () => t('send.badChannelNamed', { name: wrong }));
}

async function listenToChannels() {
  const wanted = new Set(wantedChannels());
  try {
    await rt.unsubscribe(...[...rt.channels].filter((name) => !wanted.has(name)));
    await rt.subscribe(...wanted);
  } catch (error) {
    throw error instanceof RtError ? new ApiError({ ...error, title: error.message }) : error;
  }
}

// ---- sending ---------------------------------------------------------------------------------

const form = /** @type {HTMLFormElement} */ (byId('send'));
const fields = {
  channel: /** @type {HTMLInputElement} */ (byId('channel')),
  event: /** @type {HTMLInputElement} */ (byId('event')),
  format: /** @type {HTMLSelectElement} */ (byId('format')),
  body: /** @type {HTMLTextAreaElement} */ (byId('body')),
};
/** The example last put into the form; what the user typed is left alone. */
let example = '';

function renderExample() {
  const message = t('send.example');
  const next =
    fields.format.value === 'json' ? JSON.stringify({ type: 'notification', message }, null, 2) : message;
  if (fields.body.value === example) fields.body.value = next;
  example = next;
}

/** What the form says, as a call: the path with its query, and the value. */
function call() {
  const query = new URLSearchParams();
  if (fields.channel.value.trim()) query.set('channel', fields.channel.value.trim());
  if (fields.event.value.trim()) query.set('event', fields.event.value.trim());
  const text = fields.body.value;
  // The server's names allow `/` and `:`, which may stand in a query as they are.
  const search = query.toString().replaceAll('%2F', '/').replaceAll('%3A', ':');
  return {
    path: search ? `api/broadcast?${search}` : 'api/broadcast',
    value: fields.format.value === 'json' ? parsed(text) : text,
  };
}

function checkForm() {
  checkChannel(fields.channel);
  if (fields.format.value === 'json') checkJson(fields.body);
}

async function send() {
  const { path, value } = call();
  byId('result').textContent = t('send.sending');
  try {
    const { recipientCount, message } = await api('POST', path, value);
    byId('result').textContent = t('send.sent', { count: recipientCount, id: String(message?.id ?? '') });
  } catch (error) {
    byId('result').textContent = '';
    throw error;
  }
}

// ---- the same as code ------------------------------------------------------------------------

const SNIPPETS = { curl: 'curl', fetch: 'fetch', eventsource: 'EventSource', socketio: 'Socket.IO', rtjs: 'rt.js' };

/** A snippet's place, with a button to copy it. @param {string} id @param {string} name */
function snippet(id, name) {
  const title = h('h3', { id: `${id}-title` }, name);
  const code = h('pre', { id, tabindex: '0', role: 'region', 'aria-labelledby': title.id });
  const copy = h('button', { type: 'button', class: 'small', 'data-copy': id, 'data-i18n': 'copy.button', 'aria-describedby': title.id }, t('copy.button'));
  copy.addEventListener('click', () => copyFrom(copy, code));
  return h('div', { class: 'snippet stack' }, h('div', { class: 'row end' }, title, copy), code);
}

/** An access token that was made here: shown this once, in the line for a terminal. */
let token = '';

async function makeToken() {
  const name = `console-${new Date().toISOString().slice(0, 19).replace(/[T:]/g, '-')}`;
  try {
    token = (await api('POST', 'api/tokens', { name, scopes: ['subscribe', 'publish'], days: TOKEN_DAYS })).token;
    notice('token');
  } catch (error) {
    if (!saysEnded(error)) notice('token', () => errorBanner(error));
  }
  renderSnippets();
}

function renderToken() {
  const isAdmin = whoIAm()?.role === 'admin';
  byId('make-token').hidden = !isAdmin || token !== '';
  byId('token-note').textContent = token ? t('code.made', { count: TOKEN_DAYS }) : t(isAdmin ? 'code.needed' : 'code.token');
}

function renderSnippets() {
  renderToken();
  const { path, value } = call();
  const event = fields.event.value.trim();
  const channel = fields.channel.value.trim();
  const query = channel
    ? `?channel=${encodeURIComponent(channel).replaceAll('%2F', '/').replaceAll('%3A', ':')}`
    : '';
  const local = (/** @type {string} */ to) => quoted(new URL(to, ROOT).pathname + new URL(to, ROOT).search);
  const json = JSON.stringify(value ?? null);
  byId('curl').textContent = [
    `curl ${shell(new URL(path, ROOT).href)} \\`,
    `  -H ${token ? shell(`Authorization: Bearer ${token}`) : '"Authorization: Bearer $RTAPP_TOKEN"'} \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d ${shell(json)}`,
  ].join('\n');
  byId('fetch').textContent = [
    `await fetch(${local(path)}, {`,
    `  method: 'POST',`,
    `  headers: { 'Content-Type': 'application/json' },`,
    `  body: JSON.stringify(${literal(value)}),`,
    `});`,
  ].join('\n');
  byId('eventsource').textContent = [
    `const source = new EventSource(${local(`api/events${query}`)});`,
    event ? `source.addEventListener(${quoted(event)}, (event) => {` : `source.onmessage = (event) => {`,
    `  console.log(event.lastEventId, JSON.parse(event.data));`,
    event ? `});` : `};`,
  ].join('\n');
  byId('socketio').textContent = socketIoSnippet(channel, event, value).join('\n');
  byId('rtjs').textContent = rtSnippet(channel, event, value).join('\n');
}

/** @param {string} channel @param {string} event @param {unknown} value */
function socketIoSnippet(channel, event, value) {
  return [
    `// <script src="${new URL('socket.io/socket.io.min.js', ROOT).pathname}"></script>`,
    `const socket = io();`,
    ...(channel ? [`socket.emit('join', ${quoted(channel)});`] : []),
    `socket.on(${quoted(event || 'message')}, (data) => console.log(data));`,
    `socket.emit(${quoted(event || 'message')}, ${literal(value, '')});`,
  ];
}

/** @param {string} channel @param {string} event @param {unknown} value */
function rtSnippet(channel, event, value) {
  const options = channel ? `{ channels: [${quoted(channel)}] }` : '';
  const to = channel ? `, { channel: ${quoted(channel)} }` : '';
  return [
    `import { connect } from ${quoted(new URL('static/js/rt.js', ROOT).pathname)};`,
    `const rt = connect(${options});`,
    `rt.on(${quoted(event || 'message')}, (data, { id }) => console.log(id, data));`,
    `await rt.emit(${quoted(event || 'message')}, ${literal(value, '')}${to});`,
  ];
}

/** @param {string} text as one argument of a POSIX shell */
const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** @param {string} text as a string of JavaScript */
const quoted = (text) =>
  `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;

/** @param {unknown} value as JavaScript, within the lines of a snippet @param {string} [indent] */
const literal = (value, indent = '  ') => (JSON.stringify(value, null, 2) ?? 'null').replaceAll('\n', `\n${indent}`);

// ---- small things ----------------------------------------------------------------------------

/**
 * Set an element's text by the node that it has: what changes many times a second leaves no nodes
 * behind for the browser to collect.
 * @param {Element} element
 * @param {string} text
 */
function setText(element, text) {
  const node = element.firstChild;
  if (!(node instanceof Text) || node.nextSibling) element.textContent = text;
  else if (node.data !== text) node.data = text;
}

/** @param {unknown} value */
function pretty(value) {
  const text = JSON.stringify(value, null, 2);
  if (text.length <= SHOWN) return text;
  const shown = beginning(text, SHOWN);
  return `${shown}\n… ${t('live.more', { count: text.length - shown.length })}`;
}

function renderAll() {
  renderState();
  items = rows.map((row) => messageItem(row));
  byId('messages').replaceChildren(...items);
  setStops();
  renderExample();
  renderSnippets();
}

wireForm(form, { check: checkForm, send, refused: saysEnded });
wireForm(listenForm, { check: checkChannels, send: listenToChannels });
form.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
form.addEventListener('input', renderSnippets);
fields.format.addEventListener('change', () => {
  renderExample();
  fieldError(fields.body, undefined);
  renderSnippets();
});
byId('connect').addEventListener('click', () => (rt.state === 'closed' ? rt.retryNow() : rt.close()));
byId('pause').addEventListener('click', () => setPaused(!paused));
byId('clear').addEventListener('click', clearMessages);
byId('messages').addEventListener('keydown', walk);
byId('make-token').addEventListener('click', () => void makeToken());
byId('code').append(...Object.entries(SNIPPETS).map(([id, name]) => snippet(id, name)));
byId('curl').after(byId('token'));
onSession(renderToken);
onLanguage(renderAll);
renderAll();
