/**
 * Server-sent events, read by `fetch`.
 *
 * The browser's own EventSource shows neither why it was refused nor any event whose name it wasn't
 * told beforehand, and after a refusal never comes back. This one tells the status, delivers every
 * event, resumes after the last id, notices a stream that went silent, and reconnects.
 */
import { ApiError, errorFrom, ROOT, unreachable } from './api.js';
import { backoff, pause } from './backoff.js';

/** @typedef {'connecting' | 'open' | 'reconnecting' | 'closed'} StreamState */
/** @typedef {{ event: string, data: string, id: string }} StreamEvent */
/**
 * @typedef {object} StreamHandlers
 * @property {(state: StreamState, error?: ApiError) => void} onState
 * @property {(event: StreamEvent) => void} onEvent
 */

/** Longest silence in ms until the server has told its own rhythm in its `connection` message. */
const SILENCE = 50_000;

/** A refusal that stays one however often it's asked: anything 4xx but "slow" and "busy". */
const isFinal = (/** @type {ApiError} */ { status }) =>
  status >= 400 && status < 500 && status !== 408 && status !== 429;

export class EventStream {
  /** The position served so far; a reconnect goes on behind it. */
  lastEventId = '';
  /** Whether the last connection asked to go on behind a position. */
  resuming = false;
  /** Longest silence in ms before the stream counts as dead. */
  silence = SILENCE;

  /**
   * @param {string} path relative to the application
   * @param {StreamHandlers} handlers
   */
  constructor(path, handlers) {
    this.path = path;
    this.handlers = handlers;
    /** @type {AbortController | undefined} */
    this.lifetime = undefined;
    /** What the server's `retry:` asked for, in ms, for the next reconnect only. */
    this.retry = 0;
  }

  /** Connect, and stay connected until `close()` or a refusal. */
  open() {
    this.lifetime?.abort();
    this.lifetime = new AbortController();
    void this.#stayConnected(this.lifetime.signal);
  }

  /** Say goodbye; `open()` goes on where it ended. */
  close() {
    this.lifetime?.abort();
    this.handlers.onState('closed');
  }

  /** @param {AbortSignal} signal */
  async #stayConnected(signal) {
    let attempt = 0;
    const alive = () => {
      attempt = 0;
    };
    /** @type {StreamState} */
    let state = 'connecting';
    /** @type {ApiError | undefined} */
    let reason;
    while (!signal.aborted) {
      this.handlers.onState(state, reason);
      try {
        await this.#connectOnce(signal, alive);
        reason = undefined;
      } catch (error) {
        reason = error instanceof ApiError ? error : unreachable(error);
      }
      if (signal.aborted) return;
      if (reason && isFinal(reason)) {
        this.handlers.onState('closed', reason);
        return;
      }
      state = 'reconnecting';
      this.handlers.onState(state, reason);
      await pause(this.#delay(attempt, reason), signal);
      attempt += 1;
    }
  }

  /**
   * @param {number} attempt
   * @param {ApiError | undefined} reason
   */
  #delay(attempt, reason) {
    const asked = Math.max(this.retry, (reason?.retryAfter ?? 0) * 1000);
    this.retry = 0;
    return asked + backoff(attempt);
  }

  /**
   * One connection, until the server ends it (returns) or it fails (throws).
   * @param {AbortSignal} signal
   * @param {() => void} alive called at every event
   */
  async #connectOnce(signal, alive) {
    const connection = new AbortController();
    const abort = () => connection.abort();
    signal.addEventListener('abort', abort);
    let watchdog = setTimeout(abort, this.silence);
    const heard = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(abort, this.silence);
    };
    this.resuming = this.lastEventId !== '';
    try {
      const response = await fetch(new URL(this.path, ROOT), {
        headers: {
          Accept: 'text/event-stream',
          ...(this.lastEventId && { 'Last-Event-ID': this.lastEventId }),
        },
        cache: 'no-store',
        credentials: 'same-origin',
        signal: connection.signal,
      });
      if (!response.ok || !response.body) throw await errorFrom(response);
      this.handlers.onState('open');
      const feed = createParser({
        onRetry: (ms) => {
          this.retry = ms;
        },
        onEvent: (event) => {
          alive();
          this.lastEventId = event.id || this.lastEventId;
          if (!signal.aborted && event.data) this.handlers.onEvent(event);
        },
      });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || signal.aborted) return;
        heard();
        feed(value);
      }
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener('abort', abort);
      connection.abort();
    }
  }
}

/**
 * Parser of `text/event-stream` (WHATWG HTML, 9.2.6); give it the text as it comes.
 * `onEvent` is called at every blank line, also for an event with no data, as its id counts.
 * @param {{ onEvent: (event: StreamEvent) => void, onRetry: (ms: number) => void }} handlers
 * @returns {(text: string) => void}
 */
export function createParser({ onEvent, onRetry }) {
  let rest = '';
  let id = '';
  let event = '';
  /** @type {string[]} */
  let data = [];

  /** @type {Record<string, (value: string) => void>} */
  const fields = {
    data: (value) => data.push(value),
    event: (value) => (event = value),
    id: (value) => value.includes('\0') || (id = value),
    retry: (value) => /^\d+$/.test(value) && onRetry(Number(value)),
  };

  /** @param {string} line */
  function take(line) {
    if (line === '') {
      if (id || data.length) onEvent({ event: event || 'message', data: data.join('\n'), id });
      event = '';
      data = [];
      return;
    }
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (Object.hasOwn(fields, name)) fields[name](value);
  }

  return (text) => {
    rest += text;
    // A lone CR at the end may be half of a CRLF: it waits for the next piece.
    const held = rest.endsWith('\r') ? '\r' : '';
    const lines = rest.slice(0, rest.length - held.length).split(/\r\n|\n|\r/);
    rest = (lines.pop() ?? '') + held;
    lines.forEach(take);
  };
}
