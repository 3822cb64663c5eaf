/** The server is away while the call goes on: why, as far as a page can tell, and what to do. */
import { ROOT } from '../api.js';
import { t } from '../i18n.js';
import { byId } from '../page.js';
import { line, setBanner } from './advice.js';
import { said } from './dom.js';

/** @typedef {import('../room.js').Room} Room */
/**
 * `offline`: this device; it `answers`, but the stream doesn't hold; with an error (`trouble`); it is
 * `silent`; or no connection comes about, which a browser doesn't tell from a certificate that it
 * refuses: `refused` where there is one, else `stopped`.
 * @typedef {'offline' | 'answers' | 'trouble' | 'silent' | 'refused' | 'stopped'} Cause
 */

const LOST_AFTER = 3_000; // ms without signalling before it is worth a word
const MOVED_AFTER = 12_000; // ms: a restart is over by then
const PATIENCE = 5_000;
const SLOW = 1_500; // ms in which a refusal comes; that nobody is there takes longer
const PAUSE = 2_500; // ms between two looks
const ATTEMPT = 5_000; // ms that an attempt gets, each time twice as long
/** @type {Record<Cause, string>} */
const WORDS = {
  offline: 'room.notice.offline',
  answers: 'room.notice.answers',
  trouble: 'room.notice.trouble',
  silent: 'room.notice.silent',
  refused: 'room.notice.refused',
  stopped: 'room.notice.stopped',
};

export class Breakdown {
  /** @param {Room} room */
  constructor(room) {
    this._room = room;
    this._lostAt = 0;
    this._isLooking = false;
    this._lookedAt = -Infinity;
    this._patience = ATTEMPT;
    /** @type {Cause | ''} */
    this._cause = '';
    room.on('signalling', (state) => this._follow(state));
  }

  /** @param {string} state */
  _follow(state) {
    byId('main').dataset.signalling = state;
    if (state === 'open') this._lostAt = 0;
    else this._lostAt ||= performance.now();
    if (!this._lostAt) {
      this._cause = '';
      this._patience = ATTEMPT;
    }
    this.render();
  }

  /** Once a second, while one is in the call. */
  look() {
    const now = performance.now();
    const isDue = this._lostAt && now - this._lostAt > LOST_AFTER && now - this._lookedAt > PAUSE;
    if (isDue && !this._isLooking) void this._ask();
    this.render();
  }

  async _ask() {
    this._isLooking = true;
    const cause = await causeNow(PATIENCE + this._room.slack);
    this._isLooking = false;
    this._lookedAt = performance.now();
    if (!this._lostAt) return;
    this._cause = cause;
    // Sooner than by its own wait; but a new attempt ends one that is under way.
    if (cause === 'answers' && this._room.hurry(this._patience)) this._patience *= 2;
    this.render();
  }

  /** First only that it is so; what needs an act once it has lasted. */
  render() {
    const away = this._lostAt ? performance.now() - this._lostAt : 0;
    const others = this._room.participants.filter((one) => !one.isSelf);
    const isAlive = !others.length || others.some(({ link }) => link === 'connected');
    const isLong = away > MOVED_AFTER;
    const cause = this._cause && (this._cause === 'offline' || (isLong && isAlive)) ? this._cause : '';
    const isMoved = cause === 'refused' || cause === 'silent' || cause === 'stopped';
    const otherwise = isLong && !isAlive ? 'room.notice.cut' : 'room.notice.signalling';
    const text = cause ? WORDS[cause] : otherwise;
    const retry = () => caused(cause, line('warn', t(text), 'room.notice.retry', () => this._room.retry()));
    setBanner('signalling', away > LOST_AFTER && !isMoved && retry, text);
    setBanner('address-changed', isMoved && (() => caused(cause, moved(text))), cause);
  }
}

/** @param {string} cause @param {HTMLElement} banner */
function caused(cause, banner) {
  banner.dataset.cause = cause;
  return banner;
}

/** A warning of the browser can be answered in another tab, without leaving the call. @param {string} text */
function moved(text) {
  const made = line('error', t(text), 'room.notice.reload', () => location.reload());
  const link = said('a', 'room.notice.newTab', { class: 'button small', target: '_blank', href: new URL('test', ROOT).href });
  made.querySelector('.row')?.prepend(link);
  return made;
}

/** @param {number} patience ms @returns {Promise<Cause>} */
async function causeNow(patience) {
  if (!navigator.onLine) return 'offline';
  const signal = AbortSignal.timeout(patience);
  const began = performance.now();
  try {
    const { ok } = await fetch(new URL('healthz', ROOT), { cache: 'no-store', signal });
    return ok ? 'answers' : 'trouble';
  } catch {
    if (performance.now() - began > SLOW) return 'silent';
    return location.protocol === 'https:' ? 'refused' : 'stopped';
  }
}
