/**
 * rtapp's client: one live connection for all tabs of a browser.
 *
 *     import { connect } from './static/js/rt.js';
 *     const rt = connect({ channels: ['news'] });
 *     rt.on('message', (data, { id, channel }) => console.log(data));
 *     await rt.emit('message', 'Hello!', { channel: 'news' });
 *
 * Messages come once each and in order, also across reconnects: over Server-Sent Events read by
 * `fetch` (an EventSource tells no status, and gives up at a 503), or over WebSocket.
 *
 * Events besides the messages' own names: `*` (each message), `connecting`, `open`, `reconnecting`
 * ({attempt, delay, error}), `closed` ({reason, error}), `recovered` (nothing was missed), `reset`
 * (something may have been), `buffering` (a proxy holds the stream back).
 */

/** @typedef {'connecting' | 'open' | 'reconnecting' | 'closed'} State */
/** @typedef {{ id?: string, channel?: string, event?: string }} Meta `event` as the publisher named it */
/** @typedef {Meta & { name: string, data: any, own?: boolean }} Item what comes on a connection, or is `own` */
/** @typedef {{ message: string, status: number, code: string }} Fault */
/** @typedef {{ reason?: string, attempt?: number, delay?: number, error?: Fault }} Detail */
/** @typedef {{ state: State, detail?: Detail, hello: any, session: string }} News of a connection */
/** @typedef {{ onItem: (item: Item) => void, onNews: (news: News) => void }} Hooks */
/** @typedef {(data: any, meta: Meta) => void} Listener */
/**
 * @typedef {object} Options
 * @property {string[]} [channels] besides messages to all and to this client
 * @property {'sse' | 'websocket'} [transport]
 * @property {string} [token] API token or JWT; without one the session cookie counts
 * @property {string} [session] a secret of 22-64 characters that keeps the same `clientId`
 * @property {number} [attempts] to reconnect in a row (5); Infinity never gives up
 * @property {boolean} [shared] one stream for all tabs (true; SSE only)
 * @property {string} [since] an id to begin behind, instead of now
 */

/** The folder that holds `static/`. */
const ROOT = new URL(import.meta.url.replace(/^(.*\/)static\/.*$/, '$1'));
/** What the server says of itself: names that no publisher can use. */
const SYSTEM = /^(connection|ping|reset|disconnect|webrtc-signal|(participant|room|presence)-.+)$/;
const ABOUT_CONNECTION = /^(connection|ping|reset|disconnect)$/;
const BASE = 1000; // ms: the first wait is at most this
const CAP = 30_000;
const FIRST = 20_000; // longest wait for a connection's first event
const HELD = 5_000; // so long without one, while the server answers otherwise, and it is held back

/**
 * Connect, and stay connected.
 * @param {string | URL | Options} [url] the server's root; by default the one this file came from
 * @param {Options} [options]
 */
export function connect(url, options = {}) {
  if (typeof url === 'object' && !(url instanceof URL)) return new Client(ROOT, url);
  return new Client(url ? new URL(url, location.href) : ROOT, options);
}

/** A call that failed, or why there is no connection. */
export class RtError extends Error {
  /**
   * @param {string} message
   * @param {{ status?: number, code?: string, retryAfter?: number }} [more] status 0: not reached; ms
   */
  constructor(message, { status = 0, code = 'unreachable', retryAfter = 0 } = {}) {
    super(message);
    this.name = 'RtError';
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
    /** Whether asking again can't help. */
    this.final = status >= 400 && status < 500 && status !== 408 && status !== 429;
  }
}

/** @param {Response} response @returns {Promise<RtError>} what a refusing answer says */
async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const after = response.headers.get('Retry-After') ?? '';
  const wait = /^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - Date.now();
  return new RtError(problem.detail || problem.title || `HTTP ${response.status}`, {
    status: response.status,
    code: problem.code ?? `http_${response.status}`,
    retryAfter: Math.max(0, wait || 0),
  });
}

/** Full jitter, after the cap: clients that lost the same server come back spread out. */
const backoff = (/** @type {number} */ attempt) => Math.random() * Math.min(CAP, BASE * 2 ** attempt);

/** The network is back, or the page is looked at. @param {AbortSignal} signal @param {() => void} act */
function onWake(signal, act) {
  const wake = () => document.visibilityState === 'visible' && act();
  addEventListener('online', act, { signal });
  document.addEventListener('visibilitychange', wake, { signal });
}

/** Waking ends it early. @param {number} ms @param {AbortSignal} signal */
function pause(ms, signal) {
  const waiting = new AbortController();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      waiting.abort();
      resolve(undefined);
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { signal: waiting.signal });
    onWake(waiting.signal, done);
  });
}

/** Positions of two epochs can't be compared: the new one counts. @param {string} id @param {string} than */
function isNewer(id, than) {
  const [epoch, number] = id.split('-');
  const [other, last] = than.split('-');
  return epoch !== other || Number(number) > Number(last);
}

/** @param {string} name of the event; '' for none @param {any} data @returns {string} */
function nameOf(name, data) {
  const type = name ? '' : data?.type;
  return typeof type === 'string' && SYSTEM.test(type) ? type : name || 'message';
}

/**
 * Parser of `text/event-stream` (WHATWG HTML, 9.2.6), fed with the text as it comes.
 * @param {(fields: Record<string, string>) => void} onEvent at every blank line
 */
export function createParser(onEvent) {
  let rest = '';
  /** @type {Record<string, string>} */
  let fields = {};

  /** @param {string} line */
  function take(line) {
    if (!line) {
      onEvent(fields);
      fields = {};
      return;
    }
    const [, name, value] = /** @type {RegExpExecArray} */ (/^([^:]*):? ?([^]*)$/.exec(line));
    fields[name] = name === 'data' && 'data' in fields ? `${fields.data}\n${value}` : value;
  }

  return (/** @type {string} */ text) => {
    rest += text;
    // A CR at the end may be half of a CRLF.
    const held = rest.endsWith('\r') ? '\r' : '';
    const lines = rest.slice(0, rest.length - held.length).split(/\r\n|\n|\r/);
    rest = (lines.pop() ?? '') + held;
    lines.forEach(take);
  };
}

/** A connection that stays. */
class Link {
  /** Served so far. */
  position = '';
  /** Longest silence in ms. */
  silence = FIRST;
  /** The server's `retry:`, in ms, for the next attempt only. */
  retry = 0;
  /** @type {State} */
  state = 'connecting';
  /** The connection event's data. @type {any} */
  hello = {};
  /** @type {Set<string>} */
  channels = new Set();
  /** The channels that the open stream has. @type {Set<string>} */
  #had = new Set();
  /** @type {AbortController | undefined} */
  #life;
  /** @type {WebSocket | undefined} */
  #socket;
  /** Frames that wait for their `ack`. @type {Map<number, { resolve: Function, reject: Function }>} */
  #asked = new Map();
  #refs = 0;
  #failures = 0;
  #heard = 0;

  /**
   * @param {URL} base
   * @param {Options} options
   * @param {Hooks} hooks
   */
  constructor(base, options, hooks) {
    this.base = base;
    this.options = options;
    this.hooks = hooks;
    this.session = options.session ?? newSession();
  }

  open() {
    this.#life?.abort();
    this.#life = new AbortController();
    this.#failures = 0;
    void this.#stay(this.#life.signal);
  }

  /** @param {string} [reason] @param {RtError} [error] */
  close(reason = 'closed', error) {
    this.#life?.abort();
    this.#set('closed', { reason }, error);
  }

  /** @param {string} path @param {unknown} [body] @param {RequestInit} [more] */
  async call(path, body, more = {}) {
    const { token } = this.options;
    const headers = {
      ...(body !== undefined && { 'Content-Type': 'application/json' }),
      ...(token && { Authorization: `Bearer ${token}` }),
      ...more.headers,
      'X-Session': this.session,
    };
    /** @type {RequestInit} */
    const request = { credentials: 'same-origin', cache: 'no-store', ...more, headers };
    if (body !== undefined) Object.assign(request, { method: 'POST', body: JSON.stringify(body) });
    const response = await fetch(new URL(path, this.base), request).catch((error) => {
      throw new RtError(String(error));
    });
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /** @param {Record<string, unknown>} frame @returns {Promise<any>} its `ack` */
  ask(frame) {
    const ref = (this.#refs += 1);
    this.#socket?.send(JSON.stringify({ ...frame, ref }));
    return new Promise((resolve, reject) => this.#asked.set(ref, { resolve, reject }));
  }

  get canAsk() {
    return this.state === 'open' && this.#socket?.readyState === WebSocket.OPEN;
  }

  async adjust() {
    const had = this.#had;
    const add = [...this.channels].filter((name) => !had.has(name));
    const remove = [...had].filter((name) => !this.channels.has(name));
    if (this.state !== 'open' || !(add.length + remove.length)) return;
    this.#had = new Set(this.channels);
    try {
      if (!this.#socket) {
        await this.call('api/events/topics', { session: this.session, add, remove });
        return;
      }
      if (add.length) await this.ask({ type: 'subscribe', channels: add });
      if (remove.length) await this.ask({ type: 'unsubscribe', channels: remove });
    } catch (error) {
      this.#had = had;
      throw error;
    }
  }

  /** @returns {News} */
  get news() {
    const { state, hello, session } = this;
    return { state, hello, session };
  }

  /** @param {State} state @param {Detail} [detail] @param {RtError} [error] */
  #set(state, detail = {}, error) {
    this.state = state;
    const fault = error && { message: error.message, status: error.status, code: error.code };
    this.hooks.onNews({ ...this.news, detail: { ...detail, error: fault } });
  }

  /** @param {AbortSignal} signal */
  async #stay(signal) {
    this.#set('connecting');
    for (;;) {
      const error = await this.#connect(signal).catch((caught) =>
        caught instanceof RtError ? caught : new RtError(String(caught)),
      );
      if (signal.aborted) return;
      if (error.final) return this.close('refused', error);
      if (this.#failures >= (this.options.attempts ?? 5)) return this.close('gave up', error);
      const delay = Math.max(this.retry, error.retryAfter) + backoff(this.#failures);
      this.retry = 0;
      this.#failures += 1;
      this.#set('reconnecting', { attempt: this.#failures, delay }, error);
      await pause(delay, signal);
      if (signal.aborted) return;
    }
  }

  /** One connection, to its end; why it came. @param {AbortSignal} life @returns {Promise<RtError>} */
  async #connect(life) {
    const connection = new AbortController();
    const { signal } = connection;
    this.silence = FIRST;
    const start = (this.#heard = Date.now());
    this.#had = new Set(this.channels);
    const end = () => connection.abort();
    const look = () => Date.now() - this.#heard > this.silence && end();
    const watch = setInterval(look, 500);
    const held = setTimeout(() => void this.#checkHeld(start), HELD);
    life.addEventListener('abort', end, { signal });
    onWake(signal, look);
    try {
      const read = this.options.transport === 'websocket' ? this.#readSocket : this.#readStream;
      await read.call(this, signal);
      return new RtError('the server ended the connection', { code: 'ended' });
    } catch (error) {
      if (signal.aborted && !life.aborted) return new RtError('nothing was heard', { code: 'silent' });
      throw error;
    } finally {
      clearInterval(watch);
      clearTimeout(held);
      end();
    }
  }

  /** The server answers, but the stream stays silent. @param {number} before */
  async #checkHeld(before) {
    if (this.#heard !== before) return;
    const answer = await this.call('healthz').catch(() => undefined);
    if (!answer || this.#heard !== before) return;
    console.warn('rt: a proxy between this page and the server holds its messages back');
    this.hooks.onItem({ name: 'buffering', data: {}, own: true });
  }

  /** @param {string} path @param {Record<string, string>} more @param {string} [scheme] */
  #address(path, more, scheme) {
    const url = new URL(path, this.base);
    if (scheme) url.protocol = url.protocol.replace('http', 'ws');
    for (const name of this.channels) url.searchParams.append('channel', name);
    for (const [key, value] of Object.entries(more)) if (value) url.searchParams.set(key, value);
    return url;
  }

  /** Server-Sent Events. @param {AbortSignal} signal */
  async #readStream(signal) {
    const response = await this.call(this.#address('api/events', { labels: '1' }).href, undefined, {
      signal,
      headers: {
        Accept: 'text/event-stream',
        ...(this.position && { 'Last-Event-ID': this.position }),
      },
    });
    const feed = createParser(({ event = '', data, id, channel, retry }) => {
      if (/^\d+$/.test(retry ?? '')) this.retry = Number(retry);
      if (data === undefined || signal.aborted) return;
      const value = JSON.parse(data);
      this.#take({ name: nameOf(event, value), data: value, id, channel, event: event || undefined });
    });
    if (!response.body) return;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      feed(value);
    }
  }

  /** WebSocket. @param {AbortSignal} signal */
  async #readSocket(signal) {
    const { session, position } = this;
    // A refused handshake tells no reason, and a WebSocket sends no header: HTTP is asked first.
    const asked = this.options.token
      ? await (await this.call('api/auth/ticket', {}, { signal })).json()
      : await this.call(this.#address('api/events', {}).href, undefined, { method: 'HEAD', signal });
    const query = { session, lastEventId: position, ticket: asked.ticket };
    const socket = (this.#socket = new WebSocket(this.#address('ws', query, 'ws')));
    socket.onmessage = ({ data }) => !signal.aborted && this.#takeFrame(JSON.parse(data));
    await new Promise((resolve) => {
      socket.onclose = resolve;
      signal.addEventListener('abort', resolve); // a silent peer doesn't answer a close
    });
    socket.close();
    this.#socket = undefined;
    for (const { reject } of this.#asked.values()) reject(new RtError('the connection was lost'));
    this.#asked.clear();
    signal.throwIfAborted();
  }

  /** @param {any} frame */
  #takeFrame(frame) {
    const { type, id, channel, event, ref, data } = frame;
    const waiting = this.#asked.get(ref);
    if (type === 'message') {
      this.#take({ name: nameOf(event ?? '', data), data, id, channel: channel ?? undefined, event });
    } else if (waiting) {
      this.#asked.delete(ref);
      if (type === 'error') waiting.reject(new RtError(frame.message, { ...frame, status: 400 }));
      else waiting.resolve(frame);
    } else if (SYSTEM.test(type)) {
      this.#take({ name: type, data: frame, id });
    }
  }

  /** @param {Item} item */
  #take(item) {
    this.#heard = Date.now();
    this.position = item.id || this.position;
    this.hooks.onItem(item);
    if (item.name === 'connection') this.#begin(item.data);
    else if (item.name === 'disconnect') this.close('disconnected', new RtError(item.data.reason ?? ''));
  }

  /** @param {any} hello */
  #begin(hello) {
    this.hello = hello;
    this.session = hello.session ?? this.session;
    // Two missed pings and some: it is dead, even if nobody said so.
    this.silence = (hello.pingInterval || FIRST / 1000) * 2000 + 5000;
    const again = this.#failures > 0 || this.state === 'reconnecting';
    this.#failures = 0;
    this.#set('open');
    if (hello.recovered && again) this.hooks.onItem({ name: 'recovered', data: hello, own: true });
    void this.adjust().catch(() => {});
  }
}

const newSession = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replace(/[+/=]/g, (c) => ({ '+': '-', '/': '_' })[c] ?? '');
};

/**
 * One stream for all tabs, since browsers allow six connections to a host on HTTP/1.1.
 *
 * The tab that holds the lock leads: it has the link, and passes on what comes. When it goes, the
 * browser gives the lock to the next one, which goes on behind the oldest position that a tab has
 * reached; the others drop what they had. A leader that lives but is mute has its lock stolen.
 */
class Tabs {
  /** What each tab wants and has; the leader's list. @type {Map<string, any>} */
  #others = new Map();
  /** Questions to the leader. @type {Map<number, { resolve: Function, reject: Function }>} */
  #asked = new Map();
  #count = 0;
  #leads = false;
  #heard = Date.now();
  #id = newSession();
  #closed = new AbortController();

  /** @param {Client} client @param {Link} link used while this tab leads @param {string} name */
  constructor(client, link, name) {
    this.client = client;
    this.link = link;
    this.name = name;
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = ({ data }) => this.#hear(data);
    // By this one the others see that this tab lives.
    void navigator.locks.request(`${name} ${this.#id}`, () => this.#life);
    this.#stand();
    void this.hello(Boolean(client.lastEventId)).catch(() => {});
    const watch = setInterval(() => this.#watch(), 500);
    this.#closed.signal.addEventListener('abort', () => clearInterval(watch));
  }

  get #life() {
    return new Promise((resolve) => this.#closed.signal.addEventListener('abort', resolve));
  }

  /**
   * Tell the leader what this tab wants; resolves when it is so.
   * @param {boolean} [behind] it may lack what the leader passed on
   * @returns {Promise<unknown>}
   */
  hello(behind = false) {
    const number = (this.#count += 1);
    const { lastEventId: seen, channels } = this.client;
    const said = { type: 'hello', tab: this.#id, number, seen, behind, channels: [...channels] };
    if (this.#leads) return this.#adjust();
    this.#say(said);
    return new Promise((resolve, reject) => this.#asked.set(number, { resolve, reject }));
  }

  retry() {
    if (this.#leads) this.link.open();
    else this.#say({ type: 'retry' });
  }

  close() {
    this.#say({ type: 'bye', tab: this.#id });
    this.#closed.abort();
    this.channel.close();
    if (this.#leads) this.link.close();
  }

  /** For all tabs. @param {Item} item */
  pass(item) {
    this.#say({ type: 'item', item });
    this.client.take(item);
    if (item.name === 'ping') void this.#prune();
  }

  /** @param {News} news */
  passNews(news) {
    this.#say({ type: 'news', news });
    this.client.enter(news);
  }

  /** @param {any} said */
  #say(said) {
    if (!this.#closed.signal.aborted) this.channel.postMessage(said);
  }

  #stand(steal = false) {
    navigator.locks
      .request(this.name, { steal }, () => (this.#closed.signal.aborted ? undefined : this.#lead()))
      .catch(() => this.#leads && this.#deposed());
  }

  async #lead() {
    this.#leads = true;
    this.#others.clear();
    this.#say({ type: 'lead' }); // who is there?
    if (await this.#company()) await new Promise((resolve) => setTimeout(resolve, 150));
    const { link, client } = this;
    link.session = client.session || link.session;
    link.position = this.#oldest();
    this.#collect();
    if (!this.#closed.signal.aborted) link.open();
    for (const { resolve } of this.#asked.values()) resolve();
    this.#asked.clear();
    await this.#life;
  }

  /** Another tab took over. */
  #deposed() {
    if (this.#closed.signal.aborted) return;
    this.#leads = false;
    this.#heard = Date.now();
    this.link.hooks = { onItem() {}, onNews() {} };
    this.link.close();
    this.link = this.client.newLink();
    this.#stand();
    void this.hello(true).catch(() => {});
  }

  /** The position that every tab has reached. */
  #oldest() {
    const seen = [...this.#others.values()].map((tab) => tab.seen);
    const all = [...seen, this.client.lastEventId].filter(Boolean);
    return all.reduce((oldest, id) => (isNewer(oldest, id) ? id : oldest), all[0] ?? '');
  }

  #collect() {
    const lists = [...this.#others.values()].map((tab) => tab.channels);
    this.link.channels = new Set([...this.client.channels, ...lists.flat()]);
  }

  /** @returns {Promise<string[]>} the other tabs */
  async #company() {
    const { held = [] } = await navigator.locks.query();
    const mark = `${this.name} `;
    const names = held.map((lock) => lock.name ?? '').filter((name) => name.startsWith(mark));
    return names.map((name) => name.slice(mark.length)).filter((tab) => tab !== this.#id);
  }

  /** Forget tabs that went without a word. */
  async #prune() {
    const alive = new Set(await this.#company());
    for (const tab of this.#others.keys()) if (!alive.has(tab)) this.#leave(tab);
  }

  /** @param {string} tab */
  #leave(tab) {
    this.#others.delete(tab);
    void this.#adjust().catch(() => {});
  }

  /** @type {Record<string, (said: any) => void>} */
  #acts = {
    item: ({ item }) => this.#leads || this.client.take(item),
    news: ({ news }) => this.#leads || this.client.enter(news),
    lead: () => void this.hello(true).catch(() => {}),
    hello: (said) => this.#leads && void this.#answer(said),
    bye: ({ tab }) => this.#leads && this.#leave(tab),
    retry: () => this.#leads && this.link.open(),
    welcome: (said) => said.tab === this.#id && this.#settle(said),
  };

  /** @param {any} said */
  #hear(said) {
    this.#heard = Date.now();
    this.#acts[said.type]?.(said);
  }

  /** @param {any} said */
  async #answer(said) {
    const before = this.#others.get(said.tab);
    this.#others.set(said.tab, said);
    const { link } = this;
    const { news, position } = link;
    if (said.behind && position && isNewer(position, said.seen)) {
      // It came too late: everybody goes back, and drops what it had.
      link.position = said.seen;
      this.#collect();
      link.open();
    } else if (news.state === 'closed') {
      link.open();
    }
    let error = '';
    await this.#adjust().catch((/** @type {Error} */ caught) => {
      error = caught.message;
      if (before) this.#others.set(said.tab, before);
      else this.#others.delete(said.tab);
      this.#collect();
    });
    this.#say({ ...said, type: 'welcome', news, position, error });
  }

  #adjust() {
    this.#collect();
    return this.link.adjust();
  }

  /** @param {any} said */
  #settle({ number, news, position, error }) {
    const asked = this.#asked.get(number);
    this.#asked.delete(number);
    if (error) asked?.reject(new RtError(error, { code: 'refused' }));
    else asked?.resolve();
    if (!this.client.lastEventId) this.client.lastEventId = position;
    if (news.state !== this.client.state) this.client.enter(news);
  }

  #watch() {
    const { state, hello } = this.client;
    const silence = (hello.pingInterval || FIRST / 1000) * 2000 + 5000;
    if (this.#leads || state === 'closed' || Date.now() - this.#heard < silence) return;
    this.#heard = Date.now();
    this.#stand(true);
  }
}

/** A connection as a page sees it. */
class Client {
  /** @type {State} */
  state = 'connecting';
  /** The last id that this page was given. */
  lastEventId = '';
  /** The secret behind `clientId`. */
  session = '';
  /** The connection event's data. @type {any} */
  hello = {};
  /** @type {Map<string, Set<Listener>>} */
  #listeners = new Map();
  /** @type {Tabs | undefined} */
  #tabs;

  /** @param {URL} base @param {Options} options */
  constructor(base, options) {
    this.base = base;
    this.options = options;
    this.channels = new Set(options.channels);
    this.lastEventId = options.since ?? '';
    this.link = this.newLink();
    // After the caller has had time to listen.
    queueMicrotask(() => this.state === 'closed' || this.#begin());
  }

  get clientId() {
    return /** @type {string} */ (this.hello.clientId ?? '');
  }

  /**
   * @param {string} event a message's (`message` where it has none), the server's type, or see above
   * @param {Listener} listener
   */
  on(event, listener) {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return this;
  }

  /** @param {string} event @param {Listener} listener */
  once(event, listener) {
    /** @type {Listener} */
    const first = (data, meta) => {
      this.off(event, first);
      listener(data, meta);
    };
    return this.on(event, first);
  }

  /** @param {string} event @param {Listener} [listener] none: all of them */
  off(event, listener) {
    if (listener) this.#listeners.get(event)?.delete(listener);
    else this.#listeners.delete(event);
    return this;
  }

  /**
   * Publish; resolves when the message is stored.
   * @param {string} event
   * @param {unknown} data any JSON value
   * @param {{ channel?: string, to?: string, volatile?: boolean }} [options] `to`: a clientId
   * @returns {Promise<{ id: number | null }>}
   */
  async emit(event, data, { channel, to, volatile } = {}) {
    const name = event === 'message' ? undefined : event;
    if (!volatile && this.link.canAsk) return this.link.ask({ type: 'publish', channel, to, event: name, data });
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries({ channel, to, event: name })) if (value) query.set(key, value);
    if (volatile) query.set('volatile', '1');
    const answer = await this.link.call(`api/broadcast?${query}`, data);
    return (await answer.json()).message;
  }

  /** Resolves when the server has it; at once without a connection. @param {...string} channels */
  async subscribe(...channels) {
    const added = channels.filter((name) => !this.channels.has(name));
    for (const name of added) this.channels.add(name);
    await this.#adjust().catch((/** @type {Error} */ error) => {
      for (const name of added) this.channels.delete(name);
      throw error;
    });
  }

  /** @param {...string} channels */
  async unsubscribe(...channels) {
    for (const name of channels) this.channels.delete(name);
    await this.#adjust();
  }

  /** Connect now, with all attempts ahead; also after `closed`. */
  retryNow() {
    if (this.#tabs) this.#tabs.retry();
    else this.#begin();
  }

  close() {
    if (this.#tabs) this.#tabs.close();
    else this.link.close();
    this.#tabs = undefined;
    this.enter({ ...this.link.news, state: 'closed', detail: { reason: 'closed' } });
  }

  /** @returns {Link} */
  newLink() {
    return (this.link = new Link(this.base, this.options, {
      onItem: (item) => (this.#tabs ? this.#tabs.pass(item) : this.take(item)),
      onNews: (news) => (this.#tabs ? this.#tabs.passNews(news) : this.enter(news)),
    }));
  }

  /** Pass on what came, once. @param {Item} item */
  take({ name, data, id, channel, event, own }) {
    if (id) {
      if (this.lastEventId && !isNewer(id, this.lastEventId)) {
        if (!ABOUT_CONNECTION.test(name)) return;
      } else {
        this.lastEventId = id;
      }
    }
    if (channel && !this.channels.has(channel)) return;
    this.#tell(name, data, { id, channel, event });
    if (!own && !SYSTEM.test(name)) this.#tell('*', data, { id, channel, event });
  }

  /** @param {News} news */
  enter({ state, detail = {}, hello, session }) {
    const changed = state !== this.state || state === 'reconnecting';
    Object.assign(this, { state, hello, session });
    this.link.session = session || this.link.session;
    if (changed) this.#tell(state, detail, {});
  }

  #begin() {
    const { transport, shared = true } = this.options;
    this.state = 'closed';
    this.enter({ ...this.link.news, state: 'connecting' });
    if (shared && transport !== 'websocket' && 'locks' in navigator && 'BroadcastChannel' in globalThis) {
      void this.#share();
    } else {
      this.link.position = this.lastEventId;
      this.link.channels = this.channels;
      this.link.open();
    }
  }

  async #share() {
    const { token = '', session = '' } = this.options;
    const secret = new TextEncoder().encode(`${token} ${session}`);
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', secret));
    if (this.state !== 'closed') this.#tabs = new Tabs(this, this.link, `rt ${this.base} ${hash.slice(0, 8)}`);
  }

  #adjust() {
    return this.#tabs ? this.#tabs.hello() : this.link.adjust();
  }

  /** @param {string} event @param {any} data @param {Meta} meta */
  #tell(event, data, meta) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(data, meta);
      } catch (error) {
        reportError(error); // one listener's fault is not the others'
      }
    }
  }
}
