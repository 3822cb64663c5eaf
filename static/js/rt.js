/**
 * rtapp's client: messages once and in order, across reconnects, in pages, workers and Node.
 *
 *     const rt = connect({ channels: ['news'] });
 *     rt.on('message', (data) => console.log(data));
 *     await rt.emit('message', 'Hello!', { channel: 'news' });
 *
 * Guide: static/docs/client.md
 */

/** @typedef {import('./rt-types.js').State} State */
/** @typedef {import('./rt-types.js').Meta} Meta */
/** @typedef {import('./rt-types.js').Detail} Detail */
/** @typedef {import('./rt-types.js').Options} Options */
/** @typedef {import('./rt-types.js').EmitOptions} EmitOptions */
/**
 * @template {Record<string, any>} [Events=Record<string, any>]
 * @typedef {import('./rt-types.js').Client<Events>} Client
 */
/** @import { Fault, Heard, Item, News, Older, Owner, Refused } from './rt-types.js' */

/** The server's root, where this file stands on it. */
const HOME = /^(https?:.*\/)static\/([\w-]+\/)?js\/rt\.js/.exec(import.meta.url)?.[1];
/** What the server says. @internal */
export const SYSTEM = /^(connection|ping|reset|disconnect|webrtc-signal|(participant|room|presence)-.+)$/;
/** What the client says: no message's name. */
const OWN = /^(\*|connecting|open|reconnecting|closed|recovered|buffering)$/;
const STEADY = 5_000; // ms: a shorter connection is a failed one
const FIRST = 20_000; // for a first event
const HELD = 5_000; // a wait that is told

/**
 * Connect, and stay connected.
 * @template {Record<string, any>} [Events=Record<string, any>] data by the event's name
 * @param {string | URL | Options} [url] the server's root, or else this file's
 * @param {Options} [options]
 * @returns {Client<Events>}
 */
export function connect(url, options = {}) {
  if (typeof url === 'object' && !(url instanceof URL)) return new Page(rootOf(), url);
  return new Page(rootOf(url), options);
}

/** @param {string | URL} [address] */
function rootOf(address) {
  try {
    const root = new URL(address || HOME || 'http://', globalThis.location?.href);
    root.pathname = root.pathname.replace(/\/?$/, '/');
    root.search = root.hash = '';
    if (/^(?!ws)\w+:\/\//.test(root.href)) return root;
  } catch {}
  throw new RtError("Give an address: connect('https://…/', options).", { code: 'no_address' });
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

/** @internal @param {Fault} error @returns {Fault} */
export const told = ({ message, status, code }) => ({ message, status, code });

/** Online or seen. @internal @param {AbortSignal} signal @param {() => void} act */
export function onWake(signal, act) {
  const { document: page, addEventListener: listen } = globalThis;
  listen?.('online', act, { signal });
  page?.addEventListener('visibilitychange', () => page.visibilityState === 'visible' && act(), { signal });
}

/** Two missed pings. @internal @param {any} hello */
export const silenceOf = (hello) => (hello.pingInterval || 20) * 2000 + 5000;

/** Of two epochs the new one counts. @internal @param {string} id @param {string} than */
export function isNewer(id, than) {
  const [epoch, number] = id.split('-');
  const [other, last] = than.split('-');
  return epoch !== other || !(Number(number) <= Number(last));
}

/** @internal @param {string | undefined} event @param {any} data @returns {string} */
export function nameOf(event, data) {
  if (event) return OWN.test(event) ? 'message' : event;
  return SYSTEM.test(data?.type) ? data.type : 'message';
}

/** Full jitter, after the cap. @internal @param {number} failures */
export const jitter = (failures) => Math.random() * Math.min(30_000, 1000 * 2 ** failures);

/** @internal @param {number} ms @param {(rise: () => void) => void} [take] its end */
export const pause = (ms, take) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, Math.min(ms, 2 ** 31 - 1));
    take?.(() => resolve(clearTimeout(timer)));
  });

/** @param {unknown} error @returns {never} */
const unreachable = (error) => {
  throw new RtError(String(error));
};
const more = () => import('./rt-more.js').catch(unreachable);

/** @param {unknown} error */
const report = (error) => (globalThis.reportError ?? console.error)(error);

/** Until it is open or closed. @internal @param {Page | Link} one */
export async function settled(one) {
  while (one.state !== 'open' && one.state !== 'closed') await new Promise((rise) => one.waiting.push(rise));
}

/** A connection that stays. @internal */
export class Link {
  position = '';
  /** The longest, in ms. */
  silence = FIRST;
  /** The server's, in ms, for the next attempt. */
  retry = 0;
  /** @type {State} */
  state = 'connecting';
  /** @type {any} */
  hello = {};
  /** Wanted. @type {Set<string>} */
  channels = new Set();
  /** Whose older messages may not all have come. @type {Map<string, Older>} */
  since = new Map();
  /** Of the open stream. @type {Set<string>} */
  had = new Set();
  /** @type {import('./rt-socket.js').Socket | undefined} */
  socket;
  /** @type {((item: Item) => Item) | undefined} */
  mark;
  /** @type {((value?: any) => void)[]} */
  waiting = [];
  /** @type {Promise<any>} */
  #turn = Promise.resolve();
  /** @type {RtError | undefined} */
  why;
  /** @type {import('./rt-more.js').Tokens | undefined} */
  #tokens;
  #life = new AbortController();
  /** @type {(why?: RtError) => void} */
  #end = () => {};
  /** Ends the wait. @type {(() => void) | undefined} */
  #rise;
  #firm = false;
  #failures = 0;
  #heard = 0;
  #opened = 0;
  /** Date's time, of the clock that sleeps. */
  #ahead = 0;

  /** @param {URL} base @param {Options} options @param {Owner} owner */
  constructor(base, options, owner) {
    this.base = base;
    this.options = options;
    this.owner = owner;
    this.session = options.session ?? '';
    /** Granted, or the purpose. */
    this.sure = new Set(options.channels);
  }

  /** @param {unknown} words */
  log = (words) => {
    const { debug } = this.options;
    if (debug) (debug === true ? console.log : debug)(`rt: ${words}`);
  };

  open() {
    this.#stop();
    this.#life = new AbortController();
    const { signal } = this.#life;
    this.#failures = 0;
    onWake(signal, () => this.wake());
    void this.#stay(signal);
  }

  #stop() {
    this.#life.abort();
    this.#rise?.();
  }

  wake() {
    this.#look();
    if (!this.#rise || this.#firm) return;
    this.#failures -= 1;
    this.#rise();
  }

  async #look() {
    const now = performance.now();
    const ahead = Date.now() - now;
    // It slept: what lives is heard soon.
    if (ahead - this.#ahead > this.silence) this.#heard = Math.min(this.#heard, now - this.silence / 2);
    this.#ahead = ahead;
    const heard = this.#heard;
    if (now - heard < this.silence) return;
    await pause(1_000); // a stalled page has not read all
    if (heard === this.#heard) this.#end(new RtError('nothing was heard', { code: 'silent' }));
  }

  /** @param {string} [reason] @param {RtError} [error] */
  close(reason = 'closed', error) {
    this.#stop();
    this.#set('closed', { reason }, error);
  }

  /**
   * @param {string | URL} path
   * @param {unknown} [body]
   * @param {RequestInit} [init]
   * @param {boolean} [again] with another token
   * @returns {Promise<Response>}
   */
  async call(path, body, init = {}, again = false) {
    const { token, getToken, fetch: ask = fetch } = this.options;
    if (getToken) {
      const { Tokens } = await more();
      this.#tokens ??= new Tokens(getToken);
    }
    const bearer = (await this.#tokens?.get(again)) ?? token;
    const sent = body !== undefined && { method: 'POST', body: JSON.stringify(body) };
    const headers = {
      ...(sent && { 'Content-Type': 'application/json' }),
      ...(bearer && { Authorization: `Bearer ${bearer}` }),
      ...(this.session && { 'X-Session': this.session }),
      ...init.headers,
    };
    const response = await ask(new URL(path, this.base), {
      credentials: 'same-origin',
      cache: 'no-store',
      ...sent,
      ...init,
      headers,
    }).catch(unreachable);
    const { ok, status } = response;
    if (ok) return response;
    if (status === 401 && getToken && !again) return this.call(path, body, init, true);
    const { detail, title, code = `http_${status}` } = await response.json().catch(() => ({}));
    const retryAfter = Number(response.headers.get('Retry-After')) * 1000 || 0;
    throw new RtError(detail || title || `HTTP ${status}`, { status, code, retryAfter });
  }

  /** One change of channels after the other. @returns {Promise<Refused>} */
  adjust() {
    const waits = this.state !== 'closed';
    const turn = this.#turn.then(async () => {
      await settled(this);
      const { had, channels, state } = this;
      const isSo = had.size === channels.size && [...had].every((name) => channels.has(name));
      if (state === 'closed' ? !waits : isSo) return {};
      return (await more()).agree(this, waits);
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }

  get news() {
    const { state, hello, session } = this;
    return { state, hello, session };
  }

  /** @param {State} state @param {Detail} [detail] @param {RtError} [error] */
  #set(state, detail = {}, error) {
    this.log([state, ...Object.values(detail), error?.message].join(' '));
    this.state = state;
    this.why = state === 'closed' ? error : undefined;
    this.owner.passNews({ ...this.news, detail: { ...detail, error: error && told(error) } });
    for (const rise of this.waiting.splice(0)) rise();
  }

  /** @param {AbortSignal} signal */
  async #stay(signal) {
    this.#set('connecting');
    for (let careful = false; !signal.aborted; ) {
      /** @type {RtError} */
      const error = await this.#connect(signal, careful).catch((caught) =>
        caught instanceof RtError ? caught : new RtError(String(caught)),
      );
      if (signal.aborted) return;
      if (this.state === 'open' && performance.now() - this.#opened > STEADY) this.#failures = 0;
      careful = error.final && [...this.had].some((name) => !this.sure.has(name));
      if (careful) continue; // perhaps for one of them
      if (error.final) return this.close('refused', error);
      const isOver = error.code === 'renewed' ? 0 : 1;
      if (isOver && this.#failures >= (this.options.attempts ?? 5)) return this.close('gave up', error);
      const delay = isOver * (Math.max(this.retry, error.retryAfter) + jitter(this.#failures));
      this.retry = 0;
      this.#failures += isOver;
      this.#firm = error.retryAfter > 0;
      this.#set('reconnecting', { attempt: this.#failures, delay }, error);
      await pause(delay, (rise) => (this.#rise = rise));
      this.#rise = undefined;
    }
  }

  /** @param {AbortSignal} life @param {boolean} careful @returns {Promise<never>} why it ended */
  async #connect(life, careful) {
    const connection = new AbortController();
    const { signal } = connection;
    const ended = new Promise((_, reject) => {
      this.#end = (why) => connection.abort(reject(why));
    });
    life.addEventListener('abort', () => this.#end(), { signal });
    this.silence = FIRST;
    this.#heard = performance.now();
    this.#ahead = Date.now() - this.#heard;
    this.had = new Set(this.channels);
    for (const name of this.had) if (this.since.has(name) || (careful && !this.sure.has(name))) this.had.delete(name);
    this.log(`asks ${this.base} for ${[...this.had]} from ${this.position || 'now'}`);
    const watch = setInterval(() => this.#look(), 500);
    const late = setTimeout(() => more().then((it) => it.checkHeld(this, signal)).catch(this.log), HELD);
    try {
      await Promise.race([ended, this.#read(signal)]);
      throw new RtError('the server ended the connection', { code: 'ended' });
    } finally {
      clearInterval(watch);
      clearTimeout(late);
      this.#tokens?.leave();
      connection.abort();
    }
  }

  /** @param {string} path */
  address(path) {
    const url = new URL(path, this.base);
    for (const name of this.had) url.searchParams.append('channel', name);
    return url;
  }

  /** An EventSource gives up at a 503. @param {AbortSignal} signal */
  async #read(signal) {
    if (this.options.transport === 'websocket') return (await import('./rt-socket.js')).readSocket(this, signal);
    const url = this.address('api/events?labels=1');
    const headers = { Accept: 'text/event-stream', ...(this.position && { 'Last-Event-ID': this.position }) };
    /** @type {any} */
    const { body } = await this.call(url, undefined, { signal, headers });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.hear(signal);
      // The server ends lines by LF.
      const events = (rest + value).split('\n\n');
      rest = events.pop() ?? '';
      for (const text of events) {
        const { event, data, id, channel, retry } = Object.fromEntries(text.split('\n').map((line) => line.split(/: ?(.*)/s)));
        if (retry) this.retry = Number(retry);
        if (!data) continue;
        const value = JSON.parse(data);
        this.hear(signal, { name: nameOf(event, value), data: value, id, channel, event });
      }
    }
  }

  /** @param {AbortSignal} signal of the connection @param {Item} [item] */
  hear(signal, item) {
    if (signal.aborted) return;
    this.#heard = performance.now();
    if (!item) return;
    const { name, id, data } = item;
    this.position = id || this.position;
    this.owner.pass(this.mark?.(item) ?? item);
    if (signal.aborted) return; // by a listener
    if (name === 'connection') this.#begin(data);
    if (name !== 'disconnect') return;
    const error = new RtError(data.reason ?? '', { code: 'disconnected' });
    if (this.#tokens && /expired/.test(error.message)) this.#end(error);
    else this.close('disconnected', error);
  }

  /** @param {any} hello */
  #begin(hello) {
    const again = this.state === 'reconnecting';
    this.hello = hello;
    this.session = hello.session ?? this.session;
    this.silence = silenceOf(hello);
    for (const name of this.had) this.sure.add(name);
    this.#opened = performance.now();
    this.#tokens?.beforeEnd(this.#end);
    this.#set('open');
    if (hello.recovered && again) this.owner.pass({ name: 'recovered', data: hello, own: true });
    this.adjust().catch(this.log);
  }
}

/** See rt-types.js. @internal @implements {Client<any>} */
export class Page {
  /** @type {State} */
  state = 'connecting';
  lastEventId = '';
  session = '';
  /** @type {any} */
  hello = {};
  /** @type {Map<string, Older>} */
  since = new Map();
  /** Perhaps refused. @type {Map<string, Promise<void>>} */
  asked = new Map();
  /** And whether for once. @type {Map<string, Map<Heard, boolean>>} */
  #listeners = new Map();
  /** Who listens, where `channel` subscribed. @type {Map<string, Set<() => void>>} */
  #uses = new Map();
  /** @type {((value?: any) => void)[]} */
  waiting = [];
  /** @type {Fault | undefined} */
  #why;
  /** @type {import('./rt-tabs.js').Tabs | undefined} */
  #tabs;
  /** @type {Promise<void> | undefined} */
  #begun;

  /** @param {URL} base @param {Options} options */
  constructor(base, options) {
    this.base = base;
    this.options = options;
    this.channels = new Set(options.channels);
    this.lastEventId = String(options.since ?? '');
    this.link = new Link(base, options, this);
    queueMicrotask(() => this.state === 'closed' || this.#begin()); // the caller listens first
  }

  get clientId() {
    return this.hello.clientId ?? '';
  }

  get ready() {
    return settled(this).then(() => {
      const { message, ...why } = this.#why ?? { message: 'closed', code: 'closed' };
      if (this.state === 'closed') throw new RtError(message, why);
      return this;
    });
  }

  /** @param {string} event @param {Heard} listener */
  on(event, listener) {
    return this.#listen(event, listener);
  }

  /** @param {string} event @param {Heard} listener */
  once(event, listener) {
    return this.#listen(event, listener, true);
  }

  /** @param {string} event @param {Heard} listener @param {boolean} [isOnce] */
  #listen(event, listener, isOnce = false) {
    const listeners = this.#listeners.get(event) ?? new Map();
    this.#listeners.set(event, listeners.set(listener, isOnce && (listeners.get(listener) ?? true)));
    return () => listeners.delete(listener);
  }

  /** @param {string} event @param {Heard} [listener] */
  off(event, listener) {
    if (listener) this.#listeners.get(event)?.delete(listener);
    else this.#listeners.delete(event);
    return this;
  }

  /** @param {string} event @param {any} [data] @param {EmitOptions} [options] */
  async emit(event, data = null, options = {}) {
    return (await more()).emit(this, event, data, options);
  }

  /** @param {...any} channels */
  async subscribe(...channels) {
    const names = channels.filter((one) => typeof one === 'string');
    const since = channels.find((one) => one.since)?.since;
    const added = names.filter((name) => !this.channels.has(name));
    const asked = this.#adjust(names, added);
    for (const name of added) {
      this.channels.add(name);
      this.asked.set(name, asked);
      if (since) this.since.set(name, { id: since, had: 0, seen: 0 });
    }
    for (const name of names) this.#uses.delete(name);
    await Promise.all([asked, ...names.map((name) => this.asked.get(name))]);
  }

  /** @param {...string} channels */
  async unsubscribe(...channels) {
    this.#drop(channels);
    await this.#adjust();
  }

  /** @param {string[]} names */
  #drop(names) {
    for (const name of names) {
      for (const kept of [this.channels, this.since, this.#uses]) kept.delete(name);
    }
  }

  /** @param {string[]} [names] @param {string[]} [added] dropped with a refused one */
  async #adjust(names = [], added = []) {
    try {
      await null; // what changes at once is one
      await this.#begun;
      const refused = await (this.#tabs?.hello() ?? this.link.adjust());
      const error = names.map((name) => refused[name]).find(Boolean);
      if (error) throw new RtError(error.message, error);
    } catch (error) {
      this.#drop(added);
      if (added.length) this.#adjust().catch(this.link.log);
      throw error;
    } finally {
      for (const name of added) this.asked.delete(name);
    }
  }

  /** @param {string} name @returns {import('./rt-types.js').Channel<any>} */
  channel(name) {
    const uses = this.#uses;
    return {
      name,
      on: (event, listener) => {
        const remove = this.#listen(event, (data, meta) => meta.channel === name && listener(data, meta));
        if (!this.channels.has(name)) {
          this.subscribe(name).catch(report);
          uses.set(name, new Set());
        }
        const users = uses.get(name)?.add(remove);
        return () => {
          remove();
          const isLast = users?.delete(remove) && !users.size && users === uses.get(name);
          if (isLast) this.unsubscribe(name).catch(this.link.log);
        };
      },
      publish: (event, data, options) => this.emit(event, data, { ...options, channel: name }),
      history: async (page) => (await more()).list(this, 'messages', { channel: name, ...page }),
      presence: async () => (await more()).list(this, 'presence', { channel: name }),
    };
  }

  retryNow() {
    if (this.#tabs) this.#tabs.retry();
    else this.#begin();
  }

  close() {
    this.end({ reason: 'closed' });
  }

  /** @param {Detail} detail */
  end(detail) {
    const tabs = this.#tabs;
    this.#tabs = undefined;
    this.passNews({ ...this.link.news, state: 'closed', detail });
    (tabs ?? this.link).close();
  }

  /** @param {Item} item */
  pass({ name, data, id, channel = '', event, own, since }) {
    if (name === 'connection') for (const older of this.since.values()) older.seen = 0;
    if (id) {
      const isNew = isNewer(id, this.lastEventId);
      if (isNew) this.lastEventId = id;
      const older = this.since.get(channel);
      if (older && older.id === since) {
        older.seen += 1;
        if (older.seen <= older.had) return; // asked for again, they begin with those
        older.had = older.seen;
      } else {
        this.since.delete(channel);
        if (!isNew && !/^(connection|ping|reset|disconnect)$/.test(name)) return;
      }
    }
    if (channel && !this.channels.has(channel)) return;
    const meta = { id, channel: channel || undefined, event };
    this.#tell(name, data, meta);
    if (!own && !SYSTEM.test(name)) this.#tell('*', data, meta);
  }

  /** @param {News} news */
  passNews({ state, detail = {}, hello, session }) {
    const changed = state !== this.state || state === 'reconnecting';
    Object.assign(this, { state, hello, session });
    this.link.session = session || this.link.session;
    if (!changed) return;
    this.#why = detail.error;
    for (const rise of this.waiting.splice(0)) rise();
    this.#tell(state, detail, {});
  }

  #begin() {
    const { transport, getToken, shared = 'document' in globalThis && !getToken } = this.options;
    this.state = 'closed';
    this.passNews({ ...this.link.news, state: 'connecting' });
    if (shared && transport !== 'websocket') this.#begun = this.#share();
    else this.#alone();
  }

  async #share() {
    try {
      const { Tabs, tabsName } = await import('./rt-tabs.js');
      const name = await tabsName(this);
      if (!this.#tabs && this.state !== 'closed') this.#tabs = new Tabs(this, name);
    } catch (error) {
      this.link.log(`a stream of its own: ${error}`);
      if (!this.#tabs) this.#alone();
    }
  }

  #alone() {
    if (this.state === 'closed') return;
    const { link, channels, since } = this;
    Object.assign(link, { owner: this, channels, since, position: this.lastEventId });
    link.open();
  }

  /** @param {string} event @param {any} data @param {Meta} meta */
  #tell(event, data, meta) {
    const listeners = this.#listeners.get(event);
    for (const [listener, isOnce] of [...(listeners ?? [])]) {
      if (isOnce) listeners?.delete(listener);
      try {
        listener(data, meta);
      } catch (error) {
        report(error);
      }
    }
  }
}
