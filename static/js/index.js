/** The start page: live messages, a form to send one, the same calls as code; before that, the way in. */
import { wireAccount } from './account.js';
import { api, ApiError, ROOT } from './api.js';
import { forgetCalls, showCalls, wireCalls } from './calls.js';
import { clearErrors, fieldError, wireForm } from './forms.js';
import { beginning, formatTime, onLanguage, t } from './i18n.js';
import { notice } from './notices.js';
import { banner, byId, copyFrom, errorBanner, h, serverWords, setText, startPage } from './page.js';
import { wireReveals } from './password.js';
import { onSession, refresh, saysEnded, takeLink, whoIAm } from './session.js';
import { follow, wireSignIn } from './signin.js';
import { connect, RtError } from './rt.js';
import { sharePanel } from './share.js';

const KEPT = 100; // messages in the list
const SHOWN = 10_000; // characters of one message
const DRAW_EVERY = 250; // ms, at most four times a second
const CHANNEL = /^[A-Za-z0-9_.:/-]{1,128}$/;

/**
 * A row of the list: a message, or a note of the page's own where something may be missing.
 * @typedef {{ time: Date, event: string, id: string, text: string, note?: string }} Row
 */

// ---- who may see this ------------------------------------------------------------------------

/** Whom the stream is open for; undefined: nobody yet. @type {string | undefined} */
let openFor;
/** Whose messages are shown. @type {string | undefined} */
let owner;

/** @type {import('./session.js').SessionListener} */
function onWho(me, change) {
  const may = !me || me.authenticated || me.access === 'open';
  const name = me?.authenticated ? `as ${me.username}` : 'anonymous';
  if (change === 'left' || (me && may && owner !== undefined && owner !== name)) forget();
  if (me && may) owner = name;
  const isGuest = !may && me?.guests && !me.setupNeeded;
  byId('workspace').hidden = !may;
  byId('guest').hidden = !isGuest;
  say('heading', isGuest ? 'guest.title' : 'home.heading');
  say('lead', isGuest ? 'guest.lead' : 'home.lead');
  showCalls(may ? byId('calls') : isGuest ? byId('guest-calls') : undefined);
  showForAdmin(me?.role === 'admin');
  if (!may) {
    openFor = undefined;
    rt.close();
  } else if (change !== 'asked' || openFor !== name) {
    openFor = name;
    rt.retryNow();
  }
}

/** @param {string} id @param {string} key of its text, in each language */
function say(id, key) {
  byId(id).dataset.i18n = key;
  byId(id).textContent = t(key);
}

/** @type {ReturnType<typeof sharePanel> | undefined} */
let panel;

/** The way to the dashboard, and how to share. @param {boolean} isAdmin */
function showForAdmin(isAdmin) {
  byId('nav-admin').hidden = !isAdmin;
  if (isAdmin) {
    panel ??= sharePanel(byId('share'));
    void panel.refresh();
    return;
  }
  panel?.stop();
  panel = undefined;
  byId('share').replaceChildren();
  byId('share').hidden = true;
}

/** Leave nothing on the screen for whoever comes next. */
function forget() {
  rt.lastEventId = '';
  rt.channels.clear();
  listenForm.reset();
  form.reset();
  for (const each of [listenForm, form]) clearErrors(each);
  forgetCalls();
  byId('result').textContent = '';
  example = '';
  renderExample();
  renderSnippets();
  clearMessages();
  owner = undefined;
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
rt.on('*', (data, { event = 'message', id = '' }) => add({ time: new Date(), event, id, text: pretty(data) }));
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
  add({ time: new Date(), event: '', id: '', text: '', note: 'live.gap' });
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
  renderCount();
}

/**
 * What shows a message. Elements that show one no longer kept are taken for it: made anew for each,
 * they would pile up faster than a browser collects them.
 * @param {Row} row
 * @param {HTMLLIElement[]} [over] no longer needed; what is taken is taken out
 */
function messageItem({ time, event, id, text, note }, over = []) {
  if (note) return h('li', { class: 'message', 'data-note': note }, h('p', { class: 'banner warn' }, t(note)));
  const at = over.findIndex((item) => !item.dataset.note);
  const item = at < 0 ? emptyItem() : over.splice(at, 1)[0];
  const [meta, body] = item.children;
  const [moment, name, number] = meta.children;
  moment.setAttribute('datetime', time.toISOString());
  name.className = event === 'message' ? 'badge' : 'badge accent';
  number.toggleAttribute('hidden', !id);
  setText(moment, formatTime(time));
  setText(name, event);
  setText(number, id);
  setText(body, text);
  return item;
}

function emptyItem() {
  const meta = h('div', { class: 'meta' }, h('time'), h('span'), h('code'));
  return h('li', { class: 'message' }, meta, h('pre'));
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
    value: fields.format.value === 'json' ? parse(text) : text,
  };
}

function checkForm() {
  const channel = fields.channel.value.trim();
  if (channel && !CHANNEL.test(channel)) fieldError(fields.channel, () => t('send.badChannel'));
  const fault = fields.format.value === 'json' ? jsonFault(fields.body.value) : '';
  if (fault) fieldError(fields.body, () => t('send.badJson', { reason: fault }));
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

function renderSnippets() {
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
    `  -H "Authorization: Bearer $RTAPP_TOKEN" \\`,
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
 * @param {string} text
 * @returns {any} undefined when it isn't JSON
 */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Why a text isn't JSON, in the browser's words; empty when it is.
 * @param {string} text
 */
function jsonFault(text) {
  try {
    JSON.parse(text);
    return '';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
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
  renderExample();
  renderSnippets();
}

function wire() {
  wireAccount(); // before the sign-in: while its dialog is open, nothing else takes the focus
  wireSignIn();
  wireReveals();
  wireForm(form, { check: checkForm, send, refused: saysEnded });
  wireCalls();
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
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (
    document.querySelectorAll('[data-copy]')
  )) {
    button.addEventListener('click', () => copyFrom(button, byId(button.dataset.copy ?? '')));
  }
  // A link opened in a tab that shows this page already changes only the fragment.
  addEventListener('hashchange', () => {
    const link = takeLink();
    if (link.setup || link.signin) void follow(link);
  });
  // A page kept for "back" lost its stream.
  addEventListener('pageshow', ({ persisted }) => {
    if (!persisted) return;
    openFor = undefined;
    void refresh();
  });
  // After the others: what shows the form again may not be hidden afterwards.
  onSession(onWho);
  onSession(goOn);
  onLanguage(renderAll);
}

/** Back to the page that sent somebody here to sign in. */
function goOn() {
  if (new URLSearchParams(location.search).get('to') === 'admin' && whoIAm()?.role === 'admin') {
    location.replace(new URL('admin', ROOT));
  }
}

const link = takeLink();
wire();
await startPage();
await follow(link);
