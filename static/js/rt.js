/**
 * rtapp's client: messages once and in order, across reconnects too, in pages, workers and Node.
 *
 *     const rt = connect({ channels: ['news'] });
 *     rt.on('message', (data, { id, channel }) => console.log(data));
 *     await rt.emit('message', 'Hello!', { channel: 'news' });
 *
 * The guide is static/docs/client.md. Types are in rt-types.js; the other rt-*.js are loaded late.
 */

/** @typedef {import('./rt-types.js').State} State */
/** @typedef {import('./rt-types.js').Meta} Meta */
/** @typedef {import('./rt-types.js').Detail} Detail */
/** @typedef {import('./rt-types.js').Options} Options */
/** @typedef {import('./rt-types.js').EmitOptions} EmitOptions */
/** @typedef {import('./rt-types.js').OwnEvents} OwnEvents */
/** @typedef {import('./rt-types.js').Fault} Fault */
/** @typedef {import('./rt-types.js').Item} Item */
/** @typedef {import('./rt-types.js').News} News */
/** @typedef {import('./rt-types.js').Refused} Refused */

/** The server's root, where this file still stands on it. */
const HOME = /^(https?:.*\/)static\/([\w-]+\/)?js\/rt\.js/.exec(import.meta.url)?.[1];
/** What the server says of itself: names that no publisher can use. @internal */
export const SYSTEM = /^(connection|ping|reset|disconnect|webrtc-signal|(participant|room|presence)-.+)$/;
/** What the client says of itself: a message with such a name is a `message`. */
const OWN = /^(\*|connecting|open|reconnecting|closed|recovered|buffering)$/;
const ABOUT_CONNECTION = /^(connection|ping|reset|disconnect)$/;
const STEADY = 5_000; // ms: a connection that lasted so long was one
const FIRST = 20_000; // longest wait for a first event
const HELD = 5_000; // the same, where the server answers otherwise: it is held back

/**
 * Connect, and stay connected. Throws where it isn't known to what.
 * @template {Record<string, any>} [Events=Record<string, any>] data by the event's name
 * @param {string | URL | Options} [url] the server's root; by default the one this file came from
 * @param {Options} [options]
 * @returns {Client<Events>}
 */
export function connect(url, options = {}) {
  if (typeof url === 'object' && !(url instanceof URL)) return new Client(rootOf(), url);
  return new Client(rootOf(url), options);
}

/** @param {string | URL} [address] */
function rootOf(address = '') {
  try {
    const root = new URL(address || HOME || '-', address ? globalThis.location?.href : undefined);
    root.pathname = root.pathname.replace(/\/?$/, '/');
    root.search = root.hash = '';
    return root;
  } catch {
    // told below
  }
  throw new RtError("Give the server's address: connect('https://…/', options).", { code: 'no_address' });
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

/** For other tabs. @internal @param {Fault} error @returns {Fault} */
export const told = ({ message, status, code }) => ({ message, status, code });

/** @internal @param {AbortSignal} signal @param {() => void} act when the network is back, or somebody looks */
export function onWake(signal, act) {
  const { document: page, addEventListener: listen } = globalThis;
  listen?.('online', act, { signal });
  page?.addEventListener('visibilitychange', () => page.visibilityState === 'visible' && act(), { signal });
}

/** Two missed pings and some, in ms. @internal @param {any} hello */
export const silenceOf = (hello) => (hello.pingInterval || 20) * 2000 + 5000;

/** Of two epochs the new one counts. @internal @param {string} id @param {string} than */
export function isNewer(id, than) {
  const [epoch, number] = id.split('-');
  const [other, last] = than.split('-');
  return epoch !== other || Number(number) > Number(last);
}

/** @internal @param {string | undefined} event @param {any} data @returns {string} */
export function nameOf(event, data) {
  if (event) return OWN.test(event) ? 'message' : event;
  return SYSTEM.test(data?.type) ? data.type : 'message';
}

/** Full jitter, after the cap: who lost the same server comes back spread out. @internal @param {number} failures */
export const jitter = (failures) => Math.random() * Math.min(30_000, 1000 * 2 ** failures);

/** @internal @param {number} ms @param {(rise: () => void) => void} [take] what ends it sooner */
export const pause = (ms, take) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    take?.(() => resolve(clearTimeout(timer)));
  });

/** @param {unknown} error */
const report = (error) => (globalThis.reportError ?? console.error)(error);

/** What is waited for: `while (…) await news.next()`. */
class Change {
  /** @type {Promise<void> | undefined} */
  #next;
  tell = () => {};

  next() {
    return (this.#next ??= new Promise((resolve) => {
      this.tell = () => {
        this.#next = undefined;
        resolve();
      };
    }));
  }
}

/** A connection that stays. @internal */
export class Link {
  position = '';
  /** Longest silence in ms. */
  silence = FIRST;
  /** The server's `retry:`, in ms, for the next attempt only. */
  retry = 0;
  /** When it is tried again, by performance.now(). */
  resumes = 0;
  /** @type {State} */
  state = 'connecting';
  /** @type {any} */
  hello = {};
  /** What is wanted. @type {Set<string>} */
  channels = new Set();
  /** From where on, of some. @type {Map<string, string>} */
  since = new Map();
  /** What the open stream has. @type {Set<string>} */
  #had = new Set();
  #careful = false;
  /** @type {Promise<any>} */
  #turn = Promise.resolve();
  #news = new Change();
  /** @type {RtError | undefined} */
  #why;
  /** @type {import('./rt-more.js').Tokens | undefined} */
  #tokens;
  /** Leave the token as it is. @type {(() => void) | undefined} */
  #forget;
  /** @type {AbortController | undefined} */
  #life;
  /** @type {import('./rt-socket.js').Socket | undefined} */
  #socket;
  #failures = 0;
  #heard = 0;
  #opened = 0;
  /** How far the clock that people set is ahead of the one that sleeps with the machine. */
  #ahead = 0;
  /** Ends the connection. @type {(why?: RtError) => void} */
  #end = () => {};
  /** Ends the wait for the next attempt. @type {(() => void) | undefined} */
  #rise;
  #firm = false;

  /** @param {URL} base @param {Options} options @param {import('./rt-types.js').Hooks} hooks */
  constructor(base, options, hooks) {
    this.base = base;
    this.options = options;
    this.hooks = hooks;
    this.session = options.session ?? '';
    /** What was granted, or is the whole purpose. */
    this.sure = new Set(options.channels);
  }

  /** @param {string} words */
  log(words) {
    const { debug } = this.options;
    if (debug) (typeof debug === 'function' ? debug : console.log)(`rt: ${words}`);
  }

  open() {
    this.#stop();
    const { signal } = (this.#life = new AbortController());
    this.#failures = 0;
    this.#careful = false;
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
    const now = performance.now();
    const ahead = Date.now() - now;
    // The machine slept, or somebody set the clock: a stream that lives is heard soon.
    if (ahead - this.#ahead > this.silence) this.#heard = Math.min(this.#heard, now - this.silence / 2);
    this.#ahead = ahead;
    if (now - this.#heard > this.silence) this.#end(new RtError('nothing was heard', { code: 'silent' }));
  }

  /** @param {string} [reason] @param {RtError} [error] */
  close(reason = 'closed', error) {
    this.#stop();
    this.#set('closed', { reason }, error);
  }

  /**
   * @param {string | URL} path
   * @param {unknown} [body]
   * @param {RequestInit} [more]
   * @param {boolean} [again] with another token
   * @returns {Promise<Response>}
   */
  async call(path, body, more = {}, again = false) {
    const { token, getToken, fetch: ask = fetch } = this.options;
    if (getToken) {
      const { Tokens } = await import('./rt-more.js');
      this.#tokens ??= new Tokens(getToken);
    }
    const bearer = (await this.#tokens?.get(again)) ?? token;
    const sent = body !== undefined && { method: 'POST', body: JSON.stringify(body) };
    const headers = {
      ...(sent && { 'Content-Type': 'application/json' }),
      ...(bearer && { Authorization: `Bearer ${bearer}` }),
      ...(this.session && { 'X-Session': this.session }),
      ...more.headers,
    };
    const response = await ask(new URL(path, this.base), {
      credentials: 'same-origin',
      cache: 'no-store',
      ...sent,
      ...more,
      headers,
    }).catch((error) => {
      throw new RtError(String(error));
    });
    const { ok, status } = response;
    if (ok) return response;
    if (status === 401 && getToken && !again) return this.call(path, body, more, true);
    const { detail, title, code = `http_${status}` } = await response.json().catch(() => ({}));
    const retryAfter = Number(response.headers.get('Retry-After')) * 1000 || 0;
    throw new RtError(detail || title || `HTTP ${status}`, { status, code, retryAfter });
  }

  get canAsk() {
    return this.state === 'open' && this.#socket?.isOpen;
  }

  /** @param {Record<string, unknown>} frame @returns {Promise<any>} */
  async ask(frame) {
    return this.#socket?.ask(frame);
  }

  /**
   * Make the stream's channels those that are wanted, one change after the other, once there is a
   * stream. Gives those that were refused.
   * @returns {Promise<Refused>}
   */
  adjust() {
    const waits = this.state !== 'closed';
    const turn = this.#turn.then(() => this.#agree(waits));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** @param {boolean} waits for a connection */
  async #agree(waits) {
    /** @type {Refused} */
    const refused = {};
    for (let alone = false, failures = 0; ; ) {
      while (this.state !== 'open' && this.state !== 'closed') await this.#news.next();
      if (waits && this.#why) throw this.#why;
      const had = this.#had;
      const lacks = [...this.channels].filter((name) => !had.has(name) && !refused[name]);
      const since = this.since.get(lacks[0]);
      const add = lacks.filter((name, at) => (alone ? !at : this.since.get(name) === since));
      const remove = [...had].filter((name) => !this.channels.has(name));
      if (this.state === 'closed' || !(add.length + remove.length)) return refused;
      this.log(`channels +${add} -${remove}`);
      try {
        if (this.#socket && !since) await this.#socket.change(add, remove);
        else await this.call('api/events/topics', { session: this.session, add, remove, since });
        for (const name of remove) had.delete(name);
        for (const name of add) {
          had.add(name);
          this.sure.add(name);
          this.since.delete(name);
        }
      } catch (caught) {
        const error = /** @type {RtError} */ (caught);
        if (this.#had !== had) continue; // the next connection has it
        if (error.final && error.status !== 404 && add.length) {
          if (add.length === 1) refused[add[0]] = error;
          alone = true;
        } else {
          if ((failures += 1) > 5) throw error;
          await pause(error.retryAfter + jitter(failures));
        }
      }
    }
  }

  get news() {
    const { state, hello, session } = this;
    return { state, hello, session };
  }

  /** @param {State} state @param {Detail} [detail] @param {RtError} [error] */
  #set(state, detail = {}, error) {
    this.log([state, ...Object.values(detail), error?.message].join(' '));
    this.state = state;
    this.#why = state === 'closed' ? error : undefined;
    this.hooks.onNews({ ...this.news, detail: { ...detail, error: error && told(error) } });
    this.#news.tell();
  }

  /** @param {AbortSignal} signal */
  async #stay(signal) {
    this.#set('connecting');
    for (;;) {
      this.#opened = Infinity;
      const error = await this.#connect(signal).catch((caught) =>
        caught instanceof RtError ? caught : new RtError(String(caught)),
      );
      if (signal.aborted) return;
      // A server that takes a connection and drops it is not one that is back.
      if (performance.now() - this.#opened > STEADY) this.#failures = 0;
      if (error.final) {
        const isSure = this.#careful || error.status === 401 || this.#asks().every((name) => this.sure.has(name));
        if (isSure) return this.close('refused', error);
        this.#careful = true; // perhaps for one channel: each is asked for by itself
        continue;
      }
      const isOver = error.code === 'renewed' ? 0 : 1;
      if (isOver && this.#failures >= (this.options.attempts ?? 5)) return this.close('gave up', error);
      const delay = isOver * (Math.max(this.retry, error.retryAfter) + jitter(this.#failures));
      this.retry = 0;
      this.#failures += isOver;
      this.#firm = error.retryAfter > 0;
      this.resumes = performance.now() + delay;
      this.#set('reconnecting', { attempt: this.#failures, delay }, error);
      await pause(delay, (rise) => (this.#rise = rise));
      this.#rise = undefined;
      if (signal.aborted) return;
    }
  }

  /** What to open with: the rest is added later. */
  #asks() {
    return [...this.channels].filter((name) => !this.since.has(name) && (!this.#careful || this.sure.has(name)));
  }

  /** One connection, to its end; why it came. @param {AbortSignal} life @returns {Promise<RtError>} */
  async #connect(life) {
    const connection = new AbortController();
    const { signal } = connection;
    /** @type {RtError | undefined} */
    let why;
    this.silence = FIRST;
    const start = (this.#heard = performance.now());
    this.#ahead = Date.now() - start;
    this.#had = new Set(this.#asks());
    this.log(`asks ${this.base} for ${[...this.#had]} from ${this.position || 'now'}`);
    const end = (/** @type {RtError | undefined} */ error = undefined) => {
      why ??= error;
      connection.abort();
    };
    this.#end = end;
    const watch = setInterval(() => this.#look(), 500);
    const isSilent = () => !signal.aborted && this.#heard === start;
    const ask = async () => isSilent() && (await import('./rt-more.js')).checkHeld(this, isSilent, signal);
    const held = setTimeout(() => ask().catch(() => {}), HELD);
    life.addEventListener('abort', () => end(), { signal });
    try {
      await (this.options.transport === 'websocket' ? this.#readSocket(signal) : this.#readStream(signal));
      return why ?? new RtError('the server ended the connection', { code: 'ended' });
    } catch (error) {
      throw why ?? error;
    } finally {
      clearInterval(watch);
      clearTimeout(held);
      this.#forget?.();
      end();
    }
  }

  /** @param {string} path @param {Record<string, string>} [more] */
  #address(path, more = {}) {
    const url = new URL(path, this.base);
    for (const name of this.#had) url.searchParams.append('channel', name);
    for (const [key, value] of Object.entries(more)) if (value) url.searchParams.set(key, value);
    return url;
  }

  /** Server-Sent Events, by `fetch`: an EventSource gives up at a 503. @param {AbortSignal} signal */
  async #readStream(signal) {
    const response = await this.call(this.#address('api/events', { labels: '1' }), undefined, {
      signal,
      headers: { Accept: 'text/event-stream', ...(this.position && { 'Last-Event-ID': this.position }) },
    });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const { done = true, value = '' } = (await reader?.read()) ?? {};
      if (done) return;
      this.#heard = performance.now();
      // The server ends lines by LF.
      const events = (rest + value).split('\n\n');
      rest = events.pop() ?? '';
      for (const text of events) {
        const { event, data, id, channel, retry } = Object.fromEntries(text.split('\n').map((line) => line.split(/: ?(.*)/s)));
        if (retry) this.retry = Number(retry);
        if (!data || signal.aborted) continue;
        const value = JSON.parse(data);
        this.#take({ name: nameOf(event, value), data: value, id, channel, event });
      }
    }
  }

  /** @param {AbortSignal} signal */
  async #readSocket(signal) {
    const { WebSocket: Kind = globalThis.WebSocket } = this.options;
    if (!Kind) throw new RtError('Give a class as options.WebSocket.', { status: 400, code: 'no_websocket' });
    const { Socket } = await import('./rt-socket.js');
    // A refused WebSocket tells no reason, and its address stands in logs: HTTP is asked first.
    await this.call(this.#address('api/events'), undefined, { method: 'HEAD', signal });
    const asked = await this.call('api/auth/ticket', { session: this.session || undefined }, { signal });
    const { ticket } = await asked.json();
    this.#socket = new Socket(Kind, this.#address('ws', { lastEventId: this.position, ticket }), (item) => {
      this.#heard = performance.now();
      if (item && !signal.aborted) this.#take(item);
    });
    await this.#socket.live(signal);
    this.#socket = undefined;
  }

  /** @param {Item} item */
  #take(item) {
    const { name, id, data } = item;
    this.position = id || this.position;
    this.hooks.onItem(item);
    if (name === 'connection') this.#begin(data);
    if (name !== 'disconnect') return;
    const error = new RtError(data.reason ?? '', { code: 'disconnected' });
    if (this.#tokens && /expired/.test(error.message)) this.#end(error);
    else this.close('disconnected', error);
  }

  /** @param {any} hello */
  #begin(hello) {
    const again = this.state === 'reconnecting';
    const end = this.#end;
    this.hello = hello;
    this.session = hello.session ?? this.session;
    this.silence = silenceOf(hello);
    for (const name of this.#had) this.sure.add(name);
    this.#opened = performance.now();
    this.#careful = false;
    this.#forget = this.#tokens?.beforeEnd(() => end(new RtError('the token ends', { code: 'renewed' })));
    this.#set('open');
    import('./rt-more.js').catch(() => {}); // without the network it could not be had
    if (hello.recovered && again) this.hooks.onItem({ name: 'recovered', data: hello, own: true });
    this.adjust().catch(() => {});
  }
}

/**
 * What a page has of the connection.
 * @template {Record<string, any>} [Events=Record<string, any>]
 */
export class Client {
  /** @type {State} */
  state = 'connecting';
  /** The last id that this page was given. */
  lastEventId = '';
  /** The secret behind `clientId`. */
  session = '';
  /** The connection event's data. @type {any} */
  hello = {};
  /** @internal @type {Map<string, string>} */
  since = new Map();
  /** Asked for, and perhaps refused. @internal @type {Set<string>} */
  asked = new Set();
  /** @internal @type {Link} */
  link;
  /** Channels whose older messages come at the stream's own position. @type {Set<string>} */
  #earlier = new Set();
  /** Whether it is for once, by the listener. @type {Map<string, Map<import('./rt-types.js').Listener<any, any>, boolean>>} */
  #listeners = new Map();
  /** How many listen by `channel`, where that subscribed. @type {Map<string, number>} */
  #uses = new Map();
  #news = new Change();
  /** @type {Fault | undefined} */
  #why;
  /** @type {import('./rt-tabs.js').Tabs | undefined} */
  #tabs;
  /** It is known whether there are any. @type {Promise<void> | undefined} */
  #begun;

  /** @internal @param {URL} base @param {Options} options */
  constructor(base, options) {
    this.base = base;
    this.options = options;
    /** @type {Set<string>} */
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

  /** Once it is open; rejects with why it was closed. */
  get ready() {
    return (async () => {
      while (this.state !== 'open' && this.state !== 'closed') await this.#news.next();
      const { message, ...why } = this.#why ?? { message: 'closed', code: 'closed' };
      if (this.state === 'closed') throw new RtError(message, why);
      return this;
    })();
  }

  /**
   * @template {(keyof Events | keyof OwnEvents) & string} Name
   * @param {Name} event a message's (`message` where it has none), the server's type, or of OwnEvents
   * @param {import('./rt-types.js').Listener<Events, Name>} listener
   * @returns {() => void} removes it
   */
  on(event, listener) {
    return this.#listen(event, listener, false);
  }

  /**
   * @template {(keyof Events | keyof OwnEvents) & string} Name
   * @param {Name} event
   * @param {import('./rt-types.js').Listener<Events, Name>} listener
   * @returns {() => void} removes it
   */
  once(event, listener) {
    return this.#listen(event, listener, true);
  }

  /** Gives what removes it. @param {string} event @param {import('./rt-types.js').Listener<any, any>} listener @param {boolean} isOnce */
  #listen(event, listener, isOnce) {
    const listeners = this.#listeners.get(event) ?? new Map();
    this.#listeners.set(event, listeners.set(listener, isOnce && (listeners.get(listener) ?? true)));
    return () => listeners.delete(listener);
  }

  /** @param {string} event @param {import('./rt-types.js').Listener<any, any>} [listener] none: all of them */
  off(event, listener) {
    if (listener) this.#listeners.get(event)?.delete(listener);
    else this.#listeners.delete(event);
    return this;
  }

  /**
   * Publish; resolves when the message is stored.
   * @template {keyof Events & string} Name
   * @param {Name} event
   * @param {Events[Name] | null} [data] any JSON value
   * @param {EmitOptions} [options]
   * @returns {Promise<{ id: number | null }>}
   */
  async emit(event, data = null, options = {}) {
    const { channel, to, volatile, timeout, signal, retries } = options;
    const about = { channel, to, event: event === 'message' ? undefined : event, volatile: volatile || undefined };
    const act = async (/** @type {RequestInit} */ more) => {
      // Sooner, this page would not hear it.
      while (this.state === 'connecting') await this.#news.next();
      more.signal?.throwIfAborted();
      const { link } = this;
      if (!more.headers && link.canAsk) return link.ask({ type: 'publish', ...about, data });
      const query = new URLSearchParams();
      for (const [key, value] of Object.entries(about)) if (value) query.set(key, value === true ? '1' : value);
      return (await (await link.call(`api/broadcast?${query}`, data, more)).json()).message;
    };
    if (!(timeout || signal || retries)) return act({});
    return (await import('./rt-more.js')).within(options, act);
  }

  /**
   * Resolves when the server has it; at once where the connection is closed. Rejects when it is
   * refused, and then wants none of them.
   * @param {...(string | { since?: string })} channels and perhaps, last, behind which id to begin
   */
  async subscribe(...channels) {
    const { since } = Object.assign({}, ...channels.filter((one) => typeof one === 'object'));
    const names = /** @type {string[]} */ (channels.filter((one) => typeof one === 'string'));
    const added = names.filter((name) => !this.channels.has(name));
    for (const name of added) {
      this.channels.add(name);
      this.asked.add(name);
      if (!since) continue;
      this.#earlier.add(name);
      this.since.set(name, since);
    }
    for (const name of names) this.#uses.delete(name);
    await this.#adjust(names, added);
  }

  /** @param {...string} channels */
  async unsubscribe(...channels) {
    this.#drop(channels);
    await this.#adjust();
  }

  /** @param {string[]} names */
  #drop(names) {
    for (const name of names) {
      for (const kept of [this.channels, this.since, this.#earlier, this.#uses]) kept.delete(name);
    }
  }

  /** @param {string[]} [names] @param {string[]} [added] given up if one of the names is refused */
  async #adjust(names = [], added = []) {
    try {
      await null; // what is changed at once is one change
      await this.#begun;
      const refused = await (this.#tabs?.hello() ?? this.link.adjust());
      const error = names.map((name) => refused[name]).find(Boolean);
      if (error) throw new RtError(error.message, error);
      for (const name of added) this.since.delete(name);
    } catch (error) {
      this.#drop(added);
      if (added.length) this.#adjust().catch(() => {});
      throw error;
    } finally {
      for (const name of added) this.asked.delete(name);
    }
  }

  /** @param {string} name @returns {import('./rt-types.js').Channel<Events>} */
  channel(name) {
    const uses = this.#uses;
    /** @param {string} path @param {{}} [more] */
    const list = async (path, more) =>
      (await this.link.call(`api/${path}?${new URLSearchParams({ channel: name, ...more })}`)).json();
    return {
      name,
      on: (event, listener) => {
        const remove = this.#listen(event, (data, meta) => meta.channel === name && listener(data, meta), false);
        if (!this.channels.has(name)) {
          this.subscribe(name).catch(report);
          uses.set(name, 0);
        }
        uses.set(name, (uses.get(name) ?? NaN) + 1);
        return () => {
          if (remove()) uses.set(name, (uses.get(name) ?? NaN) - 1);
          if (uses.get(name) === 0) this.unsubscribe(name).catch(() => {});
        };
      },
      publish: (event, data, options) => this.emit(event, data, { ...options, channel: name }),
      history: (page) => list('messages', page),
      presence: () => list('presence'),
    };
  }

  /** Connect now, with all attempts ahead; also after `closed`. */
  retryNow() {
    if (this.#tabs) this.#tabs.retry();
    else this.#begin();
  }

  close() {
    this.end({ reason: 'closed' });
  }

  /** @internal @param {Detail} detail */
  end(detail) {
    const tabs = this.#tabs;
    this.#tabs = undefined;
    this.passNews({ ...this.link.news, state: 'closed', detail });
    (tabs ?? this.link).close();
  }

  /** @internal @returns {Link} */
  newLink() {
    return (this.link = new Link(this.base, this.options, {
      onItem: (item) => (this.#tabs ?? this).pass(item),
      onNews: (news) => (this.#tabs ?? this).passNews(news),
    }));
  }

  /** @internal @param {Item} item */
  pass({ name, data, id, channel = '', event, own }) {
    if (id) {
      if (!this.lastEventId || isNewer(id, this.lastEventId)) {
        this.lastEventId = id;
        this.#earlier.delete(channel);
      } else if (!ABOUT_CONNECTION.test(name) && !(id === this.lastEventId && this.#earlier.has(channel))) {
        return;
      }
    }
    if (channel && !this.channels.has(channel)) return;
    const meta = { id, channel: channel || undefined, event };
    this.#tell(name, data, meta);
    if (!own && !SYSTEM.test(name)) this.#tell('*', data, meta);
  }

  /** @internal @param {News} news */
  passNews({ state, detail = {}, hello, session }) {
    const changed = state !== this.state || state === 'reconnecting';
    Object.assign(this, { state, hello, session });
    this.link.session = session || this.link.session;
    if (!changed) return;
    this.#why = detail.error;
    this.#news.tell();
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
    const isOver = () => this.#tabs || this.state === 'closed';
    try {
      const { Tabs, tabsName } = await import('./rt-tabs.js');
      const name = await tabsName(this);
      if (!isOver()) this.#tabs = new Tabs(this, name);
    } catch {
      if (!isOver()) this.#alone();
    }
  }

  #alone() {
    const { link, channels, since } = this;
    Object.assign(link, { channels, since, position: this.lastEventId });
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
        report(error); // it is not the others'
      }
    }
  }
}
