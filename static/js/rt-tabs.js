/**
 * One stream for all tabs, since browsers allow six connections to a host on HTTP/1.1: rt.js loads
 * this where tabs share.
 *
 * Who holds the lock leads: it has the link, and passes on what comes. The next one goes on behind
 * the oldest position that a tab has reached; the others drop what they had. Who is looked at asks
 * whether the leading tab still answers, and robs the mute.
 */
import { isNewer, Link, onWake, RtError, silenceOf, told } from './rt.js';

/** @import { Page } from './rt.js' */
/** @import { Item, News, Refused } from './rt-types.js' */

const TICK = 500; // ms
const UNANSWERED = 3; // questions, one a tick

/** Of the tabs that share; rejects where they can't. @param {Page} client */
export async function tabsName({ base, options: { token, session, attempts } }) {
  const secret = new TextEncoder().encode(`${token} ${session} ${attempts}`);
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', secret));
  await navigator.locks.query();
  return `rt ${base} ${hash.slice(0, 8)}`;
}

export class Tabs {
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
  /** How many items the leader has passed on; a browser may lose some while a tab is stopped. */
  #at = NaN;
  #isHeard = true;
  /** Ticks since then: without an answer, and until the leader will try again. */
  #silent = 0;
  #until = 0;
  /** When the link is tried again. */
  #resumes = 0;
  #id = crypto.randomUUID();
  #closed = new AbortController();

  /** @param {Page} client @param {string} name */
  constructor(client, name) {
    this.client = client;
    this.link = client.link; // used while this tab leads
    this.link.owner = this;
    this.name = name;
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = ({ data }) => this.#acts[data.type]?.(data);
    void navigator.locks.request(`${name} ${this.#id}`, () => {
      this.#introduce(Boolean(client.lastEventId));
      return this.#life;
    });
    this.#stand();
    const { signal } = this.#closed;
    onWake(signal, () => this.#say({ type: 'wake' }));
    const watch = setInterval(() => this.#watch(), TICK);
    signal.addEventListener('abort', () => clearInterval(watch));
  }

  get #life() {
    return new Promise((resolve) => this.#closed.signal.addEventListener('abort', resolve));
  }

  /**
   * Tell the leader what is wanted; resolves when it is so.
   * @param {boolean} [behind] it may lack what the leader passed on
   * @returns {Promise<Refused>}
   */
  hello(behind = false) {
    const { lastEventId: seen, channels, since, state } = this.client;
    if (this.#leads) return this.#adjust();
    const number = (this.#count += 1);
    this.#waits ||= behind;
    this.#say({ type: 'hello', number, seen, behind, state, channels: [...channels], since });
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
    for (const { resolve } of this.#asked.values()) resolve({});
    if (this.#leads) this.link.close();
  }

  /** For all tabs. @param {Item} item */
  pass(item) {
    this.#say({ type: 'item', item, at: (this.#at += 1) });
    this.client.pass(item);
    if (item.name === 'ping') void this.#prune();
  }

  /** @param {News} news */
  passNews(news) {
    const { reason, error, delay = 0 } = news.detail ?? {};
    this.#resumes = performance.now() + delay;
    if (reason === 'refused' && error?.status !== 401 && this.link.sure.size && this.#others.size) {
      // Perhaps for one tab's channel: each is asked for by itself.
      this.link.sure.clear();
      this.link.open();
      return;
    }
    this.#say({ type: 'news', news });
    this.client.passNews(news);
  }

  /** @param {any} said */
  #say(said) {
    if (!this.#closed.signal.aborted) this.channel.postMessage({ tab: this.#id, ...said });
  }

  /** What this tab began with must be granted. @param {boolean} behind */
  #introduce(behind) {
    this.hello(behind)
      .then((refused) => {
        const { channels, asked } = this.client;
        const name = [...channels].find((name) => refused[name] && !asked.has(name));
        if (name) this.client.end({ reason: 'refused', error: told(refused[name]) });
      })
      .catch(() => {}); // there is no connection
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
    link.log('leads the tabs');
    this.#leads = true;
    this.#waits = false;
    this.#at = 0;
    link.session = client.session || link.session;
    link.position = this.#oldest();
    link.state = client.state;
    this.#collect();
    // Who has heard something had its channels granted.
    for (const { seen, channels } of this.#others.values()) if (seen) channels.map((/** @type {string} */ name) => link.sure.add(name));
    if (client.lastEventId) for (const name of client.channels) link.sure.add(name);
    if (client.state !== 'closed') link.open();
    for (const { resolve } of this.#asked.values()) resolve(this.#adjust());
    this.#asked.clear();
    for (const said of this.#others.values()) void this.#answer(said);
    await this.#life;
  }

  #deposed() {
    if (this.#closed.signal.aborted) return;
    this.#leads = false;
    this.#hear();
    this.link.log('follows another tab');
    this.link.owner = { pass() {}, passNews() {} };
    this.link.close();
    this.link = this.client.link = new Link(this.client.base, this.client.options, this);
    this.#stand();
    this.#introduce(true);
  }

  #oldest() {
    const seen = [...this.#others.values()].map((tab) => tab.seen);
    const all = [...seen, this.client.lastEventId].filter(Boolean);
    return all.sort((one, other) => (isNewer(one, other) ? 1 : -1))[0] ?? '';
  }

  #collect() {
    const { link, client } = this;
    const tabs = [...this.#others.values(), client];
    const wanted = new Set(tabs.flatMap(({ channels }) => [...channels]));
    for (const name of wanted) {
      const sinces = tabs.filter(({ channels }) => [...channels].includes(name)).map(({ since }) => since.get(name));
      // Who has the channel goes on where it is, and who comes to it begins there.
      if (!link.channels.has(name) && sinces.every(Boolean)) link.since.set(name, sinces[0]);
    }
    for (const name of link.since.keys()) if (!wanted.has(name)) link.since.delete(name);
    link.channels = wanted;
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
    this.#adjust().catch(() => {});
  }

  #hear(delay = 0) {
    this.#isHeard = true;
    this.#silent = 0;
    this.#until = performance.now() + delay;
  }

  /** A leader that was replaced may not know it. @param {any} said */
  #follows({ tab, news, delay = news?.detail?.delay }) {
    if (this.#leads || tab !== (this.#leader ||= tab)) return false;
    this.#hear(delay);
    return true;
  }

  /** @type {Record<string, (said: any) => void>} */
  #acts = {
    item: (said) => this.#follows(said) && this.#hearItem(said),
    news: (said) => this.#follows(said) && this.client.passNews(said.news),
    lead: (said) => {
      this.#leader = said.tab;
      this.#at = NaN;
      if (this.#follows(said)) this.#introduce(true);
    },
    hello: (said) => void (this.#leads ? this.#answer(said) : this.#others.set(said.tab, said)),
    bye: ({ tab }) => this.#leads && this.#leave(tab),
    retry: () => this.#leads && this.link.open(),
    wake: () => this.#leads && this.link.wake(),
    ask: () => this.#leads && this.#say({ type: 'here' }),
    here: (said) => this.#follows(said),
    welcome: (said) => said.to === this.#id && this.#follows(said) && this.#enter(said),
    done: (said) => said.to === this.#id && this.#follows(said) && this.#settle(said),
  };

  /** @param {any} said */
  #hearItem({ item, at }) {
    const isNext = !(at > this.#at + 1);
    this.#at = at;
    if (this.#waits) return;
    if (isNext) return this.client.pass(item);
    if (this.client.since.size) {
      this.client.since.clear(); // of what has no position it isn't known what is missing
      this.client.pass({ name: 'reset', data: {}, own: true });
    }
    this.#introduce(true);
  }

  /** @param {any} said */
  async #answer(said) {
    const { tab, number, seen, behind, state, channels } = said;
    const { link } = this;
    const lacks = channels.some((/** @type {string} */ name) => !link.channels.has(name));
    const late = behind && seen && isNewer(link.position, seen);
    this.#others.set(tab, said);
    this.#collect();
    if (link.state === 'closed' ? state !== 'closed' : late || (behind && lacks)) {
      // Everybody goes back, and drops what it had.
      if (late) link.position = seen;
      link.open();
    }
    const delay = this.#resumes - performance.now();
    this.#say({ type: 'welcome', to: tab, number, news: link.news, position: link.position, at: this.#at, delay });
    try {
      const found = Object.entries(await this.#adjust()).filter(([name]) => channels.includes(name));
      const refused = Object.fromEntries(found.map(([name, error]) => [name, told(error)]));
      this.#say({ type: 'done', to: tab, number, refused });
    } catch (error) {
      this.#say({ type: 'done', to: tab, number, error: told(/** @type {RtError} */ (error)) });
    }
  }

  /** @returns {Promise<Refused>} */
  #adjust() {
    this.#collect();
    return this.link.adjust();
  }

  /** @param {any} said */
  #enter({ number, news, position, at }) {
    this.#at = at;
    if (number === this.#count) this.#waits = false;
    if (!this.client.lastEventId) this.client.lastEventId = position;
    if (news.state !== this.client.state) this.client.passNews(news);
  }

  /** @param {any} said */
  #settle({ number, refused, error }) {
    for (const [asked, { resolve, reject }] of this.#asked) {
      if (asked > number) continue;
      this.#asked.delete(asked);
      if (error) reject(new RtError(error.message, error));
      else resolve(refused);
    }
  }

  #watch() {
    const { state, hello } = this.client;
    if (this.#leads || state === 'closed' || performance.now() < this.#until) return;
    if (this.#isHeard) return void (this.#isHeard = false);
    this.#silent += 1;
    const isHidden = globalThis.document?.visibilityState === 'hidden';
    const asks = this.#silent - (isHidden ? Math.ceil(silenceOf(hello) / TICK) : 0);
    if (asks > UNANSWERED) {
      this.#hear();
      this.#stand(true);
    } else if (asks > 0) {
      this.#say({ type: 'ask' });
    }
  }
}
