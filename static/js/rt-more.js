/**
 * What rt.js loads once it is connected, or needs it: changes of channels, calls with limits, tokens
 * that are renewed, a stream that is held back.
 */
import { isNewer, jitter, pause, RtError, settled } from './rt.js';

/** @import { Link, Page } from './rt.js' */
/** @import { EmitOptions, Item, Older, Refused } from './rt-types.js' */

const EARLY = 30_000; // ms before its end, when a token is renewed

/** See Link.adjust. @param {Link} link @param {boolean} waits for a connection */
export async function agree(link, waits) {
  /** @type {Refused} */
  const refused = {};
  for (let alone = false, failures = 0; ; await settled(link)) {
    if (waits && link.why) throw link.why;
    const { had, channels, socket } = link;
    const lacks = [...channels].filter((name) => !had.has(name) && !refused[name]);
    const behind = (/** @type {string} */ name) => link.since.get(name)?.id;
    const since = behind(lacks[0]);
    const add = lacks.filter((name, at) => (alone ? !at : behind(name) === since));
    const remove = [...had].filter((name) => !channels.has(name));
    if (link.state === 'closed' || !(add.length + remove.length)) return refused;
    link.log(`channels +${add} -${remove}`);
    if (since) {
      link.mark = (item) => marked(link, item);
      for (const name of add) /** @type {Older} */ (link.since.get(name)).at = '';
    }
    try {
      if (socket && !since) await socket.change(add, remove);
      else await link.call('api/events/topics', { session: link.session, add, remove, since });
      for (const name of remove) had.delete(name);
      for (const name of add) {
        had.add(name);
        link.sure.add(name);
      }
    } catch (caught) {
      const error = /** @type {RtError} */ (caught);
      if (link.had !== had) continue; // the next connection has it
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

/**
 * Mark what may be one of a channel's older messages. They come in a row, all at the stream's own
 * position: what is newer, or a ping with a position, comes behind the last of them.
 * @param {Link} link
 * @param {Item} item
 */
function marked({ since }, item) {
  const { name, id, channel = '' } = item;
  for (const [key, older] of since) {
    if (name === 'connection') older.at = undefined;
    const isBehind = id && older.at && (name === 'ping' || isNewer(id, older.at));
    if (isBehind || (name === 'reset' && older.at !== undefined)) since.delete(key);
  }
  const older = since.get(channel);
  if (older) older.at = id;
  return { ...item, since: older?.id };
}

/** See Client.emit. @param {Page} client @param {string} event @param {any} data @param {EmitOptions} options */
export function emit(client, event, data, options) {
  const { channel, to, volatile, timeout, signal, retries } = options;
  const about = { channel, to, event: event === 'message' ? undefined : event, volatile: volatile || undefined };
  const act = async (/** @type {RequestInit} */ limits) => {
    // Sooner, this page would not hear it.
    while (client.state === 'connecting') await new Promise((rise) => client.waiting.push(rise));
    limits.signal?.throwIfAborted();
    const { link } = client;
    if (!limits.headers && link.socket?.isOpen) return link.socket.ask({ type: 'publish', ...about, data });
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(about)) if (value) query.set(key, value === true ? '1' : value);
    return (await (await link.call(`api/broadcast?${query}`, data, limits)).json()).message;
  };
  return timeout || signal || retries ? within(options, act) : act({});
}

/** @param {Page} client @param {string} path @param {Record<string, any>} query */
export const list = async ({ link }, path, query) =>
  (await link.call(`api/${path}?${new URLSearchParams(query)}`)).json();

/**
 * Call within limits; where no answer came, or one that says so, again with the same key.
 * @template T
 * @param {EmitOptions} options
 * @param {(more: RequestInit) => Promise<T>} act
 */
async function within({ timeout, signal, retries }, act) {
  const end = new AbortController();
  const stop = () => end.abort(signal?.reason);
  const late = () => end.abort(new RtError(`no answer in ${timeout} ms`, { code: 'timeout' }));
  const timer = timeout && setTimeout(late, timeout);
  /** @type {Promise<never>} */
  const ended = new Promise((_, reject) => {
    end.signal.addEventListener('abort', () => reject(end.signal.reason));
  });
  signal?.addEventListener('abort', stop);
  if (signal?.aborted) stop();
  try {
    return await Promise.race([ended, insist(retries, end.signal, act)]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}

/**
 * @template T
 * @param {number | undefined} retries
 * @param {AbortSignal} signal
 * @param {(more: RequestInit) => Promise<T>} act
 */
async function insist(retries = 0, signal, act) {
  const key = `${Date.now()}-${Math.random()}${Math.random()}`;
  const headers = retries ? { 'Idempotency-Key': key } : undefined; // it costs the server a row
  for (let failures = 0; ; failures += 1) {
    try {
      signal.throwIfAborted();
      return await act({ signal, headers });
    } catch (error) {
      if (!(error instanceof RtError) || error.final || failures >= retries || signal.aborted) throw error;
      await pause(error.retryAfter + jitter(failures), (rise) => signal.addEventListener('abort', rise));
    }
  }
}

/**
 * Tell where a proxy holds a stream back: the server answers otherwise.
 * @param {Link} link
 * @param {AbortSignal} signal of the stream
 */
export async function checkHeld(link, signal) {
  const isSilent = () => !signal.aborted && link.state !== 'open';
  const answers = () => link.call('healthz', undefined, { signal }).then(isSilent, () => false);
  // Asked twice: the first answer of a server that was busy can overtake the stream's first bytes.
  if (!isSilent() || !(await answers()) || !(await answers())) return;
  console.warn('rt: a proxy holds the messages back');
  link.owner.pass({ name: 'buffering', data: {}, own: true });
}

/** The end of a JSON Web Token (RFC 7519), in ms; Infinity where none is read. @param {string} token */
function endOf(token) {
  try {
    const claims = token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
    return JSON.parse(atob(claims)).exp * 1000 || Infinity;
  } catch {
    return Infinity;
  }
}

/** The newest token. */
export class Tokens {
  #token = '';
  /** @type {Promise<string> | undefined} */
  #asked;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {() => string | Promise<string>} getToken */
  constructor(getToken) {
    this.getToken = getToken;
  }

  get #rest() {
    return endOf(this.#token) - Date.now();
  }

  /** @param {boolean} isRefused the one that there is */
  async get(isRefused) {
    if (isRefused || !this.#token || this.#rest < EARLY + 1_000) {
      this.#asked ??= (async () => this.getToken())().finally(() => (this.#asked = undefined));
      this.#token = await this.#asked;
    }
    return this.#token;
  }

  /** Give a reason to connect anew before the token ends. @param {(why: RtError) => void} act */
  beforeEnd(act) {
    const rest = this.#rest;
    const renew = () => act(new RtError('the token ends', { code: 'renewed' }));
    // A timer takes no more than 2 ** 31 ms.
    if (rest > 0 && rest < 2 ** 31) this.#timer = setTimeout(renew, Math.max(rest - EARLY, rest / 2));
  }

  /** Leave the token as it is, and who was asked for it. */
  leave() {
    clearTimeout(this.#timer);
    this.#asked = undefined;
  }
}
