/** rt.js over WebSocket: loaded by who asks for it. */
import { nameOf, RtError, SYSTEM } from './rt.js';

/** @import { Link } from './rt.js' */
/** @import { Item } from './rt-types.js' */

const MAY_PASS = /^(rate_limited|overloaded|storage_unavailable|outcome_unknown)$/;

/** One connection, to its end. @param {Link} link @param {AbortSignal} signal */
export async function readSocket(link, signal) {
  const { WebSocket: Kind = globalThis.WebSocket } = link.options;
  if (!Kind) throw new RtError('Give a class as options.WebSocket.', { status: 400, code: 'no_websocket' });
  // A refused WebSocket tells no reason, and its address stands in logs: HTTP is asked first.
  await link.call(link.address('api/events'), undefined, { method: 'HEAD', signal });
  const asked = await link.call('api/auth/ticket', { session: link.session || undefined }, { signal });
  const { ticket } = await asked.json();
  const url = link.address('ws');
  if (link.position) url.searchParams.set('lastEventId', link.position);
  url.searchParams.set('ticket', ticket);
  link.socket = new Socket(Kind, url, (item) => link.hear(signal, item));
  await link.socket.live(signal);
  link.socket = undefined;
}

export class Socket {
  /** Questions, by their `ref`. @type {Map<number, { resolve: Function, reject: Function }>} */
  #asked = new Map();
  #refs = 0;

  /** @param {any} Kind the class @param {URL} url @param {(item?: Item) => void} onItem none: something else */
  constructor(Kind, url, onItem) {
    url.protocol = url.protocol.replace('http', 'ws');
    this.onItem = onItem;
    this.socket = new Kind(url.href);
    this.socket.onmessage = (/** @type {MessageEvent} */ { data }) => this.#take(JSON.parse(data));
  }

  get isOpen() {
    return this.socket.readyState === 1;
  }

  /** Until it is closed. @param {AbortSignal} signal */
  async live(signal) {
    await new Promise((resolve) => {
      this.socket.onclose = this.socket.onerror = resolve;
      signal.addEventListener('abort', resolve); // a silent peer doesn't answer a close
    });
    this.socket.close();
    for (const { reject } of this.#asked.values()) reject(new RtError('the connection was lost'));
  }

  /** @param {Record<string, unknown>} frame @returns {Promise<any>} its `ack` */
  ask(frame) {
    if (!this.isOpen) return Promise.reject(new RtError('the connection was lost'));
    const ref = (this.#refs += 1);
    this.socket.send(JSON.stringify({ ...frame, ref }));
    return new Promise((resolve, reject) => this.#asked.set(ref, { resolve, reject }));
  }

  /** @param {string[]} add @param {string[]} remove */
  async change(add, remove) {
    if (add.length) await this.ask({ type: 'subscribe', channels: add });
    if (remove.length) await this.ask({ type: 'unsubscribe', channels: remove });
  }

  /** @param {any} frame */
  #take(frame) {
    const { type, id, channel, event, ref, data, code, message } = frame;
    const waiting = this.#asked.get(ref);
    if (type === 'message') {
      this.onItem({ name: nameOf(event, data), data, id, channel: channel ?? undefined, event });
    } else if (waiting) {
      this.#asked.delete(ref);
      if (type === 'error') waiting.reject(new RtError(message, { status: MAY_PASS.test(code) ? 503 : 400, code }));
      else waiting.resolve(frame);
    }
    this.onItem(SYSTEM.test(type) ? { name: type, data: frame, id } : undefined);
  }
}
