/** The start page: signing in by link, live messages, a form to send one, the same calls as code. */
import { api, ApiError, ROOT } from './api.js';
import { formatTime, onLanguage, t } from './i18n.js';
import { byId, copyFrom, errorBanner, h, startPage } from './page.js';
import { EventStream } from './stream.js';

const KEPT = 100; // messages in the list
const SHOWN = 10_000; // characters of one message
const DRAW_EVERY = 250; // ms, at most four times a second
const CHANNEL = /^[A-Za-z0-9_.:/-]{1,128}$/;

/**
 * A row of the list: a message, or a note of the page's own where something may be missing.
 * @typedef {{ time: Date, event: string, id: string, text: string, note?: string }} Row
 */

// ---- sign-in ---------------------------------------------------------------------------------

/** @type {{ authenticated: boolean, role?: string, username?: string | null } | undefined} */
let me;

/** Roles as texts. @type {Record<string, string>} */
const ROLES = { guest: 'role.guest', user: 'role.user', admin: 'role.admin' };

/** Take the one-time token out of `#setup=…`, and out of the address bar and the history. */
function takeSetupToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get('setup');
  if (token) history.replaceState(null, '', location.pathname + location.search);
  return token;
}

/** @param {string | null} token */
async function signIn(token) {
  /** @type {unknown} */
  let failure;
  if (token) {
    await api('POST', 'api/auth/setup', { token }).catch((error) => (failure = error));
  }
  await askWhoIAm();
  // Whoever is signed in already has no need of the link, used up or not.
  if (failure && !me?.authenticated) {
    const refused = failure instanceof ApiError && failure.status === 403;
    notice('signin', () => (refused ? howToSignIn('signin.linkRefused') : errorBanner(failure)));
  } else {
    notice('signin');
  }
}

async function askWhoIAm() {
  me = await api('GET', 'api/auth/me').catch(() => undefined);
  renderWho();
}

function renderWho() {
  byId('who').textContent = whoIAm();
}

function whoIAm() {
  if (!me) return '';
  if (!me.authenticated) return t('signin.no');
  const { role = '', username } = me;
  const roleName = Object.hasOwn(ROLES, role) ? t(ROLES[role]) : role;
  return username ? t('signin.as', { name: username, role: roleName }) : t('signin.yes', { role: roleName });
}

/** @param {string} title a key */
function howToSignIn(title) {
  const again = h('button', { type: 'button' }, t('signin.again'));
  again.addEventListener('click', async () => {
    await signIn(null);
    stream.open();
  });
  const steps = ['signin.step1', 'signin.step2', 'signin.step3'].map((key) => h('li', {}, t(key)));
  return h(
    'div',
    { class: 'banner warn', role: 'alert' },
    h('p', { class: 'title' }, t(title)),
    h('p', { class: 'body' }, t('signin.how')),
    h('ol', { class: 'body' }, ...steps),
    again,
  );
}

// ---- notices above the columns, one of each kind ---------------------------------------------

/** @type {Map<string, () => HTMLElement>} */
const notices = new Map();

/**
 * @param {string} kind
 * @param {() => HTMLElement} [render] none takes it away
 */
function notice(kind, render) {
  if (!render && !notices.has(kind)) return;
  if (render) notices.set(kind, render);
  else notices.delete(kind);
  renderNotices();
}

function renderNotices() {
  byId('notices').replaceChildren(...[...notices.values()].map((render) => render()));
}

// ---- live messages ---------------------------------------------------------------------------

/** Newest first. @type {Row[]} */
let rows = [];
/** Not yet drawn, newest first. @type {Row[]} */
let waiting = [];
let received = 0;
let paused = false;
let drawnAt = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let drawing;
/** @type {{ state: import('./stream.js').StreamState, clientId: string, heartbeat?: Date }} */
const live = { state: 'connecting', clientId: '' };

const stream = new EventStream('api/events', { onState, onEvent });

/** @type {Record<import('./stream.js').StreamState, string>} */
const STATES = {
  connecting: 'state.connecting',
  open: 'state.open',
  reconnecting: 'state.reconnecting',
  closed: 'state.closed',
};

/** Events that the server says about the stream itself. @type {Record<string, (data: any) => void>} */
const SYSTEM = {
  connection(data) {
    live.clientId = data.clientId ?? '';
    // Two missed heartbeats and some: the stream is dead, even if no one said so.
    if (data.pingInterval > 0) stream.silence = data.pingInterval * 2000 + 5000;
    if (data.recovered === false && stream.resuming) markGap();
    heartbeat();
  },
  ping: heartbeat,
  reset: () => markGap(),
  disconnect(data) {
    stream.close();
    notice('stream', () =>
      plainBanner('warn', 'live.disconnected', String(data.reason ?? data.message ?? '')),
    );
  },
};

/**
 * @param {import('./stream.js').StreamState} state
 * @param {ApiError} [error]
 */
function onState(state, error) {
  live.state = state;
  renderState();
  if (state === 'open') {
    notice('stream');
    notice('signin');
  }
  if (!error) return;
  if (error.status === 401) {
    void askWhoIAm();
    if (!notices.has('signin')) notice('signin', () => howToSignIn('signin.needed'));
  } else if (state === 'closed' || error.status) {
    notice('stream', () => errorBanner(error));
  }
}

/** @param {import('./stream.js').StreamEvent} message */
function onEvent({ event, data, id }) {
  const value = parse(data);
  const handle = SYSTEM[systemName(event, value)];
  if (handle) handle(value ?? {});
  else add({ time: new Date(), event, id, text: pretty(data, value) });
}

/**
 * System messages are an event name, or an unnamed object's `type`; nobody else may use either.
 * @param {string} event
 * @param {any} value
 */
function systemName(event, value) {
  const name = event === 'message' ? value?.type : event;
  return Object.hasOwn(SYSTEM, name) ? name : '';
}

function heartbeat() {
  live.heartbeat = new Date();
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
  const list = byId('messages');
  list.prepend(...waiting.map(messageItem));
  rows = [...waiting, ...rows].slice(0, KEPT);
  waiting = [];
  while (list.children.length > KEPT) list.lastElementChild?.remove();
  renderCount();
}

/** @param {Row} row */
function messageItem({ time, event, id, text, note }) {
  if (note) return h('li', { class: 'message' }, h('p', { class: 'banner warn' }, t(note)));
  return h(
    'li',
    { class: 'message' },
    h(
      'div',
      { class: 'meta' },
      h('time', { datetime: time.toISOString() }, formatTime(time)),
      h('span', { class: event === 'message' ? 'badge' : 'badge accent' }, event),
      id ? h('code', {}, id) : undefined,
    ),
    h('pre', {}, text),
  );
}

function renderState() {
  const element = byId('state');
  element.dataset.state = live.state;
  element.textContent = t(STATES[live.state]);
  byId('connect').textContent = t(live.state === 'closed' ? 'live.connect' : 'live.disconnect');
  renderFacts();
  renderCount();
}

function renderFacts() {
  /** @type {[string, HTMLElement][]} */
  const facts = [];
  if (live.state === 'open' && live.clientId) facts.push(['live.clientId', h('code', {}, live.clientId)]);
  if (live.heartbeat) {
    facts.push([
      'live.heartbeat',
      h('time', { datetime: live.heartbeat.toISOString() }, formatTime(live.heartbeat)),
    ]);
  }
  byId('facts').replaceChildren(
    ...facts.map(([key, value]) => h('div', {}, h('dt', {}, t(key)), h('dd', {}, value))),
  );
}

function renderCount() {
  const held = waiting.filter((row) => !row.note).length;
  byId('empty').hidden = rows.length > 0;
  byId('empty').textContent = t(live.state === 'open' ? 'live.empty' : 'live.off');
  byId('count').textContent =
    paused && held ? t('live.held', { count: held }) : received ? t('live.count', { count: received }) : '';
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
  waiting = [];
  received = 0;
  byId('messages').replaceChildren();
  renderCount();
}

function listenToChannels() {
  const input = /** @type {HTMLInputElement} */ (byId('channels'));
  const channels = input.value.split(/[\s,]+/).filter(Boolean);
  const wrong = channels.find((channel) => !CHANNEL.test(channel));
  fieldError(input, wrong ? t('send.badChannelNamed', { name: wrong }) : '');
  if (wrong) return input.focus();
  const query = new URLSearchParams(channels.map((channel) => ['channel', channel])).toString();
  stream.path = query ? `api/events?${query}` : 'api/events';
  stream.open();
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

/** @returns {boolean} whether the form can be sent */
function checkForm() {
  const channel = fields.channel.value.trim();
  fieldError(fields.channel, channel && !CHANNEL.test(channel) ? t('send.badChannel') : '');
  fieldError(fields.body, fields.format.value === 'json' ? jsonError(fields.body.value) : '');
  const wrong = form.querySelector('[aria-invalid="true"]');
  if (wrong instanceof HTMLElement) wrong.focus();
  return !wrong;
}

async function send() {
  if (byId('send-button').getAttribute('aria-disabled') || !checkForm()) return;
  const { path, value } = call();
  busy(true);
  byId('result').textContent = t('send.sending');
  byId('send-error').replaceChildren();
  try {
    const { recipientCount, message } = await api('POST', path, value);
    byId('result').textContent = t('send.sent', { count: recipientCount, id: String(message?.id ?? '') });
  } catch (error) {
    byId('result').textContent = '';
    byId('send-error').replaceChildren(errorBanner(error));
  } finally {
    busy(false);
  }
}

/** A button that is merely marked keeps the focus. @param {boolean} value */
function busy(value) {
  const button = byId('send-button');
  if (value) button.setAttribute('aria-disabled', 'true');
  else button.removeAttribute('aria-disabled');
}

/**
 * @param {HTMLElement} field its message stands in `#<id>-error`
 * @param {string} message empty: all is well
 */
function fieldError(field, message) {
  byId(`${field.id}-error`).textContent = message;
  if (message) field.setAttribute('aria-invalid', 'true');
  else field.removeAttribute('aria-invalid');
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
}

/** @param {string} text as one argument of a POSIX shell */
const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** @param {string} text as a string of JavaScript */
const quoted = (text) =>
  `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`;

/** @param {unknown} value as JavaScript, within the lines of a snippet */
const literal = (value) => (JSON.stringify(value, null, 2) ?? 'null').replaceAll('\n', '\n  ');

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

/** @param {string} text */
function jsonError(text) {
  try {
    JSON.parse(text);
    return '';
  } catch (error) {
    return t('send.badJson', { reason: error instanceof Error ? error.message : '' });
  }
}

/**
 * @param {string} data
 * @param {unknown} value
 */
function pretty(data, value) {
  const text = value === undefined ? data : JSON.stringify(value, null, 2);
  if (text.length <= SHOWN) return text;
  return `${text.slice(0, SHOWN)}\n… ${t('live.more', { count: text.length - SHOWN })}`;
}

/**
 * @param {string} kind
 * @param {string} title a key
 * @param {string} body the server's words
 */
function plainBanner(kind, title, body) {
  return h(
    'div',
    { class: `banner ${kind}`, role: 'alert' },
    h('p', { class: 'title' }, t(title)),
    body ? h('p', { class: 'body', lang: 'en' }, body) : undefined,
  );
}

function renderAll() {
  renderWho();
  renderNotices();
  renderState();
  byId('messages').replaceChildren(...rows.map(messageItem));
  renderExample();
  renderSnippets();
}

function wire() {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void send();
  });
  form.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener('input', renderSnippets);
  fields.format.addEventListener('change', () => {
    renderExample();
    fieldError(fields.body, '');
    renderSnippets();
  });
  byId('listen').addEventListener('submit', (event) => {
    event.preventDefault();
    listenToChannels();
  });
  byId('connect').addEventListener('click', () => (live.state === 'closed' ? stream.open() : stream.close()));
  byId('pause').addEventListener('click', () => setPaused(!paused));
  byId('clear').addEventListener('click', clearMessages);
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (
    document.querySelectorAll('[data-copy]')
  )) {
    button.addEventListener('click', () => copyFrom(button, byId(button.dataset.copy ?? '')));
  }
  // A setup link opened in a tab that shows this page already changes only the fragment.
  addEventListener('hashchange', async () => {
    const token = takeSetupToken();
    if (!token) return;
    await signIn(token);
    stream.open();
  });
  // A page kept for "back" lost its stream.
  addEventListener('pageshow', ({ persisted }) => persisted && stream.open());
  onLanguage(renderAll);
}

const token = takeSetupToken();
wire();
await startPage();
await signIn(token);
stream.open();
