/** What rt.js loads when it needs it: calls with limits, tokens that are renewed, a stream held back. */
import { jitter, pause, RtError } from './rt.js';

/** @typedef {import('./rt-types.js').EmitOptions} EmitOptions */

const EARLY = 30_000; // ms before its end, when a token is renewed

/**
 * Call within limits; where no answer came, or one that says so, again with the same key.
 * @template T
 * @param {EmitOptions} options
 * @param {(more: RequestInit) => Promise<T>} act
 */
export async function within({ timeout, signal, retries }, act) {
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
      await pause(error.retryAfter + jitter(failures));
    }
  }
}

/**
 * Tell where a proxy holds a stream back: the server answers otherwise.
 * @param {import('./rt.js').Link} link
 * @param {() => boolean} isSilent
 * @param {AbortSignal} signal of the stream
 */
export async function checkHeld(link, isSilent, signal) {
  const answers = () => link.call('healthz', undefined, { signal }).then(isSilent, () => false);
  // Asked twice: the first answer of a server that was busy can overtake the stream's first bytes.
  if (!(await answers()) || !(await answers())) return;
  console.warn('rt: a proxy holds the messages back');
  link.hooks.onItem({ name: 'buffering', data: {}, own: true });
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

  /** Act before the token's end; gives what takes that back. @param {() => void} act */
  beforeEnd(act) {
    const rest = this.#rest;
    const isSoon = rest > 0 && rest < 2 ** 31; // longer than a timer takes
    const timer = isSoon ? setTimeout(act, Math.max(rest - EARLY, rest / 2)) : undefined;
    return () => clearTimeout(timer);
  }
}
