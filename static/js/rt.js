/**
 * rtapp's client: one live connection for all tabs of a browser.
 *
 *     import { connect } from './static/js/rt.js';
 *     const rt = connect({ channels: ['news'] });
 *     rt.on('message', (data, { id, channel }) => console.log(data));
 *     await rt.emit('message', 'Hello!', { channel: 'news' });
 *
 * Messages come once and in order, across reconnects too, over Server-Sent Events (by `fetch`: an
 * EventSource gives up at a 503) or WebSocket. Other events: `*` (each message), `connecting`,
 * `open`, `reconnecting` ({attempt, delay, error}), `closed` ({reason, error}), `recovered`
 * (nothing was missed), `reset` (something may have been), `buffering` (by a proxy).
 */

/** @typedef {'connecting' | 'open' | 'reconnecting' | 'closed'} State */
/** @typedef {{ id?: string, channel?: string, event?: string }} Meta `event` as the publisher named it */
/** @typedef {Meta & { name: string, data: any, own?: boolean }} Item what comes, or is `own` */
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

const ROOT = new URL(import.meta.url.replace(/^(.*\/)static\/.*$/, '$1'));
/** What the server says of itself: names that no publisher can use. */
const SYSTEM = /^(connection|ping|reset|disconnect|webrtc-signal|(participant|room|presence)-.+)$/;
/** What the client says of itself: a message with such a name is a `message`. */
const OWN = /^(\*|connecting|open|reconnecting|closed|recovered|buffering)$/;
const ABOUT_CONNECTION = /^(connection|ping|reset|disconnect)$/;
const BASE = 1000; // ms: the first wait is at most this
const CAP = 30_000;
const FIRST = 20_000; // longest wait for a first event
const HELD = 5_000; // the same, where the server answers otherwise: it is held back

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

/** @param {Fault} error @returns {Fault} for other tabs */
const told = ({ message, status, code }) => ({ message, status, code });

/** @param {Response} response @returns {Promise<RtError>} what a refusing answer says */
async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const { status, headers } = response;
  return new RtError(problem.detail || problem.title || `HTTP ${status}`, {
    status,
    code: problem.code ?? `http_${status}`,
    retryAfter: Number(headers.get('Retry-After')) * 1000 || 0,
  });
}

/** @param {AbortSignal} signal @param {() => void} act when the network is back, or somebody looks */
function onWake(signal, act) {
  const wake = () => document.visibilityState === 'visible' && act();
  addEventListener('online', act, { signal });
  document.addEventListener('visibilitychange', wake, { signal });
}

/** Two missed pings and some, in ms. @param {any} hello */
const silenceOf = (hello) => (hello.pingInterval || 20) * 2000 + 5000;

/** Positions of two epochs can't be compared: the new one counts. @param {string} id @param {string} than */
function isNewer(id, than) {
  const [epoch, number] = id.split('-');
  const [other, last] = than.split('-');
  return epoch !== other || Number(number) > Number(last);
}

/** @param {string | undefined} event @param {any} data @returns {string} */
function nameOf(event, data) {
  if (event) return OWN.test(event) ? 'message' : event;
  return SYSTEM.test(data?.type) ? data.type : 'message';
}

/** A connection that stays. */
class Link {
  position = '';
  /** Longest silence in ms. */
  silence = FIRST;
  /** The server's `retry:`, in ms, for the next attempt only. */
  retry = 0;
  /** @type {State} */
  state = 'connecting';
  /** @type {any} */
  hello = {};
  /** @type {Set<string>} */
  channels = new Set();
  /** The channels that the open stream has. @type {Set<string>} */
  #had = new Set();
  /** @type {AbortController | undefined} */
  #life;
  /** @type {WebSocket | undefined} */
  #socket;
  /** @type {Map<number, { resolve: Function, reject: Function }>} */
  #asked = new Map();
  #refs = 0;
  #failures = 0;
  #heard = 0;
  #end = () => {};
  /** Ends the wait for the next attempt. @type {(() => void) | undefined} */
  #rise;
  #firm = false;

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
    this.#stop();
    const { signal } = (this.#life = new AbortController());
    this.#failures = 0;
    onWake(signal, () => this.wake());
    void this.#stay(signal);
  }

  #stop() {
    this.#life?.abort();
    this.#rise?.();
  }

  /** Try now, and don't count it. */
  wake() {
    this.#look();
    if (!this.#rise || this.#firm) return;
    this.#failures -= 1;
    this.#rise();
  }

  #look() {
    if (Date.now() - this.#heard > this.silence) this.#end();
  }

  /** @param {string} [reason] @param {RtError} [error] */
  close(reason = 'closed', error) {
    this.#stop();
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
    this.hooks.onNews({ ...this.news, detail: { ...detail, error: error && told(error) } });
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
      // Full jitter, after the cap: who lost the same server comes back spread out.
      const jitter = Math.random() * Math.min(CAP, BASE * 2 ** this.#failures);
      const delay = Math.max(this.retry, error.retryAfter) + jitter;
      this.retry = 0;
      this.#failures += 1;
      this.#firm = error.retryAfter > 0;
      this.#set('reconnecting', { attempt: this.#failures, delay }, error);
      await new Promise((resolve) => {
        this.#rise = () => resolve(undefined);
        setTimeout(resolve, delay);
      });
      this.#rise = undefined;
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
    const end = (this.#end = () => connection.abort());
    const watch = setInterval(() => this.#look(), 500);
    const held = setTimeout(() => void this.#checkHeld(start, signal), HELD);
    life.addEventListener('abort', end, { signal });
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

  /** @param {number} start @param {AbortSignal} signal of the connection */
  async #checkHeld(start, signal) {
    const isSilent = () => !signal.aborted && this.#heard === start;
    const answers = () => this.call('healthz', undefined, { signal }).then(isSilent, () => false);
    // Asked twice: the first answer of a server that was busy can overtake the stream's first bytes.
    if (!isSilent() || !(await answers()) || !(await answers())) return;
    console.warn('rt: a proxy holds the messages back');
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
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const { done = true, value = '' } = (await reader?.read()) ?? {};
      if (done) return;
      this.#heard = Date.now();
      // The server ends lines by LF.
      const events = (rest + value).split('\n\n');
      rest = events.pop() ?? '';
      for (const event of events) if (!signal.aborted) this.#takeEvent(event);
    }
  }

  /** @param {string} text */
  #takeEvent(text) {
    const { event, data, id, channel, retry } = Object.fromEntries(text.split('\n').map((line) => line.split(/: ?(.*)/s)));
    if (retry) this.retry = Number(retry);
    if (!data) return;
    const value = JSON.parse(data);
    this.#take({ name: nameOf(event, value), data: value, id, channel, event });
  }

  /** WebSocket. @param {AbortSignal} signal */
  async #readSocket(signal) {
    const { session, position } = this;
    // A refused WebSocket tells no reason: HTTP is asked first.
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
    this.#heard = Date.now();
    const { type, id, channel, event, ref, data } = frame;
    const waiting = this.#asked.get(ref);
    if (type === 'message') {
      this.#take({ name: nameOf(event, data), data, id, channel: channel ?? undefined, event });
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
    this.position = item.id || this.position;
    this.hooks.onItem(item);
    if (item.name === 'connection') this.#begin(item.data);
    else if (item.name === 'disconnect') this.close('disconnected', new RtError(item.data.reason ?? ''));
  }

  /** @param {any} hello */
  #begin(hello) {
    this.hello = hello;
    this.session = hello.session ?? this.session;
    this.silence = silenceOf(hello);
    const again = this.#failures > 0 || this.state === 'reconnecting';
    this.#failures = 0;
    this.#set('open');
    if (hello.recovered && again) this.hooks.onItem({ name: 'recovered', data: hello, own: true });
    void this.adjust().catch(() => {});
  }
}

const newSession = () => {
  const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
};

/**
 * One stream for all tabs, since browsers allow six connections to a host on HTTP/1.1.
 *
 * Who holds the lock leads: it has the link, and passes on what comes. The next one goes on behind
 * the oldest position that a tab has reached; the others drop what they had. The mute are robbed.
 */
class Tabs {
  /** What each tab wants and has; the leader's list. @type {Map<string, any>} */
  #others = new Map();
  /** Questions to the leader. @type {Map<number, { resolve: Function, reject: Function }>} */
  #asked = new Map();
  #count = 0;
  #leads = false;
  /** The tab that leads. */
  #leader = '';
  /** The leader may go back for this tab. */
  #waits = false;
  #anew = false;
  #heard = Date.now();
  #suspect = false;
  #id = newSession();
  #closed = new AbortController();

  /** @param {Client} client @param {Link} link used while this tab leads @param {string} name */
  constructor(client, link, name) {
    this.client = client;
    this.link = link;
    this.name = name;
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = ({ data }) => this.#hear(data);
    void navigator.locks.request(`${name} ${this.#id}`, () => {
      this.#introduce(Boolean(client.lastEventId));
      return this.#life;
    });
    this.#stand();
    const { signal } = this.#closed;
    onWake(signal, () => this.#say({ type: 'wake' }));
    const watch = setInterval(() => this.#watch(), 500);
    signal.addEventListener('abort', () => clearInterval(watch));
  }

  get #life() {
    return new Promise((resolve) => this.#closed.signal.addEventListener('abort', resolve));
  }

  /**
   * Tell the leader what is wanted; resolves when it is so.
   * @param {boolean} [behind] it may lack what the leader passed on
   * @returns {Promise<unknown>}
   */
  hello(behind = false) {
    if (this.#leads) return this.#adjust();
    const number = (this.#count += 1);
    const { lastEventId: seen, channels, state } = this.client;
    this.#waits ||= behind;
    this.#say({ type: 'hello', number, seen, behind, state, channels: [...channels] });
    return new Promise((resolve, reject) => this.#asked.set(number, { resolve, reject }));
  }

  retry() {
    if (this.#leads) this.link.open();
    else this.#say({ type: 'retry' });
  }

  close() {
    this.#say({ type: 'bye' });
    this.#closed.abort();
    this.channel.close();
    this.#release();
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
    const { reason, error } = news.detail ?? {};
    if (reason === 'refused' && error?.status !== 401) return this.#refused(news);
    this.#say({ type: 'news', news });
    this.client.enter(news);
    if (this.#anew && news.state === 'open') this.#say({ type: 'lead' });
    this.#anew &&= news.state !== 'open';
  }

  /** Perhaps for one tab's channel: each is asked by itself. @param {News} news */
  #refused(news) {
    if (!this.#others.size) return this.#quit(news);
    this.#others.clear();
    this.#collect();
    this.#anew = true;
    this.link.open();
  }

  /** @param {News} news */
  #quit(news) {
    this.client.enter(news);
    this.client.close();
  }

  /** @param {any} said */
  #say(said) {
    if (!this.#closed.signal.aborted) this.channel.postMessage({ tab: this.#id, ...said });
  }

  /** @param {boolean} behind */
  #introduce(behind) {
    void this.hello(behind).catch((error) =>
      this.#quit({ ...this.link.news, state: 'closed', detail: { reason: 'refused', error: told(error) } }),
    );
  }

  #stand(steal = false) {
    navigator.locks
      .request(this.name, { steal }, () => (this.#closed.signal.aborted ? undefined : this.#lead()))
      .catch(({ name }) => name === 'AbortError' && this.#deposed());
  }

  async #lead() {
    const { link, client } = this;
    this.#others.clear();
    this.#say({ type: 'lead' });
    if ((await this.#alive()).length > 1) await new Promise((resolve) => setTimeout(resolve, 150));
    if (this.link !== link || this.#closed.signal.aborted) return;
    this.#leads = true;
    this.#waits = false;
    link.session = client.session || link.session;
    link.position = this.#oldest();
    link.state = client.state;
    this.#collect();
    if (client.state !== 'closed') link.open();
    this.#release();
    for (const said of this.#others.values()) void this.#answer(said);
    await this.#life;
  }

  #release() {
    for (const { resolve } of this.#asked.values()) resolve();
    this.#asked.clear();
  }

  #deposed() {
    if (this.#closed.signal.aborted) return;
    this.#leads = false;
    this.#heard = Date.now();
    this.link.hooks = { onItem() {}, onNews() {} };
    this.link.close();
    this.link = this.client.newLink();
    this.#stand();
    this.#introduce(true);
  }

  #oldest() {
    const seen = [...this.#others.values()].map((tab) => tab.seen);
    const all = [...seen, this.client.lastEventId].filter(Boolean);
    return all.sort((one, other) => (isNewer(one, other) ? 1 : -1))[0] ?? '';
  }

  #collect() {
    const lists = [...this.#others.values()].map((tab) => tab.channels);
    this.link.channels = new Set([...this.client.channels, ...lists.flat()]);
  }

  /** @returns {Promise<string[]>} the tabs' locks */
  async #alive() {
    const { held = [] } = await navigator.locks.query();
    return held.map(({ name = '' }) => name).filter((name) => name.startsWith(`${this.name} `));
  }

  async #prune() {
    const alive = await this.#alive();
    for (const tab of this.#others.keys()) if (!alive.includes(`${this.name} ${tab}`)) this.#leave(tab);
  }

  /** @param {string} tab */
  #leave(tab) {
    this.#others.delete(tab);
    void this.#adjust().catch(() => {});
  }

  /** A leader that was replaced may not know it. @param {any} said */
  #follows({ tab, news }) {
    if (this.#leads || tab !== (this.#leader ||= tab)) return false;
    this.#heard = Date.now() + (news?.detail?.delay ?? 0);
    this.#suspect = false;
    return true;
  }

  /** @type {Record<string, (said: any) => void>} */
  #acts = {
    item: (said) => this.#follows(said) && !this.#waits && this.client.take(said.item),
    news: (said) => this.#follows(said) && this.client.enter(said.news),
    lead: (said) => {
      this.#leader = said.tab;
      if (this.#follows(said)) this.#introduce(true);
    },
    hello: (said) => void (this.#leads ? this.#answer(said) : this.#others.set(said.tab, said)),
    bye: ({ tab }) => this.#leads && this.#leave(tab),
    retry: () => this.#leads && this.link.open(),
    wake: () => this.#leads && this.link.wake(),
    welcome: (said) => said.to === this.#id && this.#follows(said) && this.#settle(said),
  };

  /** @param {any} said */
  #hear(said) {
    this.#acts[said.type]?.(said);
  }

  /** @param {any} said */
  async #answer(said) {
    const { tab, number, seen, behind, state, channels } = said;
    const { link } = this;
    const before = this.#others.get(tab);
    const lacks = channels.some((/** @type {string} */ name) => !link.channels.has(name));
    this.#others.set(tab, said);
    const error = await this.#adjust().catch((/** @type {RtError} */ caught) => caught);
    const late = behind && seen && isNewer(link.position, seen);
    if (error?.final) {
      if (before) this.#others.set(tab, before);
      else this.#others.delete(tab);
      this.#collect();
    } else if (link.state === 'closed' ? state !== 'closed' : error || late || (behind && lacks)) {
      // Everybody goes back, and drops what it had.
      if (late) link.position = seen;
      link.open();
    }
    const { news, position } = link;
    this.#say({ type: 'welcome', to: tab, number, news, position, error: error?.final && told(error) });
  }

  #adjust() {
    this.#collect();
    return this.link.adjust();
  }

  /** @param {any} said */
  #settle({ number, news, position, error }) {
    for (const [asked, { resolve, reject }] of this.#asked) {
      if (asked > number) continue;
      this.#asked.delete(asked);
      if (error) reject(new RtError(error.message, error));
      else resolve();
    }
    if (number === this.#count) this.#waits = false;
    if (!this.client.lastEventId) this.client.lastEventId = position;
    if (news.state !== this.client.state) this.client.enter(news);
  }

  #watch() {
    const { state, hello } = this.client;
    if (this.#leads || state === 'closed' || Date.now() - this.#heard < silenceOf(hello)) return;
    if (this.#suspect) this.#stand(true);
    this.#suspect = !this.#suspect;
  }
}

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
    // The caller listens first.
    queueMicrotask(() => this.state === 'closed' || this.#begin());
  }

  /** @returns {string} */
  get clientId() {
    return this.hello.clientId ?? '';
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
   * @param {unknown} [data] any JSON value
   * @param {{ channel?: string, to?: string, volatile?: boolean }} [options] `to`: a clientId
   * @returns {Promise<{ id: number | null }>}
   */
  async emit(event, data = null, { channel, to, volatile } = {}) {
    // Sooner, this page would not hear it.
    if (this.state === 'connecting') {
      await new Promise((go) => ['open', 'reconnecting', 'closed'].map((state) => this.once(state, go)));
    }
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

  /** @param {Item} item */
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
      void this.#share().catch(() => this.state === 'closed' || this.#alone());
    } else {
      this.#alone();
    }
  }

  #alone() {
    this.link.position = this.lastEventId;
    this.link.channels = this.channels;
    this.link.open();
  }

  async #share() {
    const { token, session, attempts } = this.options;
    const secret = new TextEncoder().encode(`${token} ${session} ${attempts}`);
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', secret));
    await navigator.locks.query();
    if (this.#tabs || this.state === 'closed') return;
    this.#tabs = new Tabs(this, this.link, `rt ${this.base} ${hash.slice(0, 8)}`);
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
        reportError(error); // it is not the others'
      }
    }
  }
}
