/**
 * The little of a browser that the pages' modules touch when they are loaded; a test imports this
 * first. What a test needs beyond it, it sets itself by `put`.
 */
import { readFile } from 'node:fs/promises';
import { webcrypto } from 'node:crypto';

/** Set a global, also one that newer versions of Node have and don't let be assigned. */
export function put(name, value) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
}

/** An element that keeps what is set and shows nothing. */
class Element extends EventTarget {
  dataset = {};
  attributes = {};
  children = [];

  setAttribute(name, value) {
    this.attributes[name] = value;
  }

  append(...children) {
    this.children.push(...children);
  }

  replaceChildren(...children) {
    this.children = children;
  }
}

const page = new EventTarget();
for (const name of ['addEventListener', 'removeEventListener', 'dispatchEvent']) put(name, page[name].bind(page));
put('window', globalThis);
put(
  'document',
  Object.assign(new EventTarget(), {
    documentElement: Object.assign(new Element(), { dataset: { languages: 'en tr' } }),
    visibilityState: 'visible',
    createElement: () => new Element(),
    getElementById: () => new Element(),
    querySelectorAll: () => [],
  }),
);
put('navigator', { languages: ['en-GB'], userAgent: '' });
put('location', new URL('http://page.test/'));
put('HTMLMediaElement', class {});
put('matchMedia', () => new EventTarget());
put('reportError', (error) => {
  throw error;
});
// Node's own would keep the process alive.
put('BroadcastChannel', class { postMessage() {} });

// Node 18 has these only behind an import or a flag.
globalThis.crypto ?? put('crypto', webcrypto);
globalThis.CustomEvent ??
  put(
    'CustomEvent',
    class extends Event {
      constructor(name, { detail }) {
        super(name);
        this.detail = detail;
      }
    },
  );

/** A storage; `forbid` makes it throw as browsers do where a policy or a private mode says so. */
export class Storage {
  items = new Map();
  forbid = false;

  getItem(key) {
    this.#check();
    return this.items.get(key) ?? null;
  }

  setItem(key, value) {
    this.#check();
    this.items.set(key, String(value));
  }

  #check() {
    if (this.forbid) throw new DOMException('no', 'SecurityError');
  }
}
put('localStorage', new Storage());

/** The catalogues of the pages from the disk; whoever tests other calls sets another `fetch`. */
export const fromDisk = async (url) => new Response(await readFile(url));
put('fetch', fromDisk);

/** Once every promise that can go on has. */
export async function settled() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

const wait = setTimeout; // the real one, whatever a test sets

/** Wait for what the disk or a thread of Node has its time with. */
export async function until(condition) {
  for (let turn = 0; !condition(); turn += 1) {
    if (turn === 10_000) throw new Error(`waited in vain for ${condition}`);
    await new Promise((resolve) => wait(resolve, 1));
  }
}

/** The time in a test's hands: from its making on, timers and the clocks go on only by `run`. */
export class Clock {
  now = 1_000_000;
  #timers = new Map();
  #made = 0;

  /** How many go. */
  get timers() {
    return this.#timers.size;
  }

  constructor() {
    const add = (act, ms = 0, every = 0) => {
      this.#made += 1;
      const due = this.now + (ms < 2 ** 31 ? ms : 1); // like a real one
      this.#timers.set(this.#made, { act, due, every });
      return this.#made;
    };
    put('setTimeout', (act, ms) => add(act, ms));
    put('setInterval', (act, ms) => add(act, ms, ms));
    for (const name of ['clearTimeout', 'clearInterval']) put(name, (id) => this.#timers.delete(id));
    Date.now = () => this.now;
    put('performance', { now: () => this.now });
  }

  /** So much time in which the machine has none for the page: what was due comes late, and once. */
  stall(ms) {
    this.now += ms;
    for (const timer of this.#timers.values()) timer.due = Math.max(timer.due, this.now);
  }

  /** Let time pass, and whatever is due happen. */
  async run(ms) {
    const end = this.now + ms;
    for (;;) {
      await settled();
      const due = [...this.#timers].filter(([, timer]) => timer.due <= end);
      if (!due.length) break;
      const [id, timer] = due.sort(([, one], [, other]) => one.due - other.due)[0];
      this.now = timer.due;
      if (timer.every) timer.due += timer.every;
      else this.#timers.delete(id);
      timer.act();
    }
    this.now = end;
  }
}
