/** What has to be said to whoever is in a call, as long as it is so: above the pictures, each once. */
import { t } from '../i18n.js';
import { notice } from '../notices.js';
import { banner, byId, h } from '../page.js';
import { isOwnLine } from '../quality.js';
import { faultBanner, inFaults, said } from './dom.js';

/** @typedef {import('./call.js').Call} Call */

const BOTH = /** @type {const} */ (['audio', 'video']);

export class Advice {
  /** @param {Call} call */
  constructor(call) {
    this._call = call;
    /** What was put away in this call. @type {Set<string>} */
    this._away = new Set();
  }

  /** Another call begins. */
  start() {
    this._away.clear();
  }

  render() {
    const { room } = this._call;
    const { self, load, isCpuLimited, participants, signalling } = room;
    setBanner('muted', Boolean(self?.muted) && (() => line('warn', t('room.notice.muted'))));
    setBanner('camera-off', Boolean(self?.cameraOff) && (() => line('warn', t('room.notice.cameraOff'))));
    const crowd = load === 'ok' || this._away.has('too-many') ? '' : load;
    if (crowd === 'too-many') this._advise('load', crowd, 'warn', 'room.notice.tooMany');
    else this._advise('load', crowd, 'info', 'room.notice.crowd');
    // While the server is away too, that is said, and what to do.
    setBanner('own-line', signalling === 'open' && isOwnLine(participants) && (() => line('info', t('room.quality.ownLine'))));
    this._advise('cpu', isCpuLimited ? 'cpu' : '', 'warn', 'room.quality.ownCpu');
    this._devices();
  }

  _devices() {
    const { devices, turn } = this._call;
    const { faults, lists, on, tracks } = devices;
    for (const kind of BOTH) {
      const fault = on[kind] ? faults[kind] : undefined;
      const state = `${fault} ${lists[kind].map(({ label }) => label)}`; // by which others are offered
      setBanner(kind, fault !== undefined && (() => faultBanner([kind], fault, () => turn(kind, true), devices)), state);
    }
    const taken = BOTH.find((kind) => tracks[kind]?.muted);
    setBanner('interrupted', taken !== undefined && (() => inFaults(({ takenBanner }) => takenBanner(taken, devices))), taken);
  }

  /** Who waits to be let in. @param {number} count */
  waiting(count) {
    const show = () => this._call.panels.open('people');
    setBanner('waiting', count > 0 && (() => line('info', t('room.waiting.title', { count }), 'room.waiting.show', show)), String(count));
  }

  /** The browser wants a gesture before it plays sound. */
  blocked() {
    const unlock = () => {
      this._call.seats.play();
      setBanner('blocked', false);
    };
    setBanner('blocked', () => line('warn', t('room.notice.blocked'), 'room.notice.unblock', unlock));
    addEventListener('pointerdown', unlock, { once: true });
    addEventListener('keydown', unlock, { once: true });
  }

  /** What the reader may put away for the rest of the call. @param {string} code @param {string} state empty: nothing to say @param {'info' | 'warn'} kind @param {string} text */
  _advise(code, state, kind, text) {
    const close = () => {
      this._away.add(state);
      this.render();
      byId('stage').focus();
    };
    const isShown = state !== '' && !this._away.has(state);
    setBanner(code, isShown && (() => line(kind, t(text), 'notice.close', close)), state);
  }
}

/**
 * @param {string} kind
 * @param {false | (() => HTMLElement)} render false takes it away
 * @param {string} [state] what it says: as long as that is the same it isn't said again
 */
export const setBanner = (kind, render, state = '') => notice(kind, render || undefined, state);

/**
 * A banner with a button; its first sentence stands out.
 * @param {'info' | 'warn' | 'error' | 'ok'} kind
 * @param {string} text
 * @param {string} [key] the button's text
 * @param {() => void} [act]
 */
export function line(kind, text, key, act) {
  const button = key ? said('button', key, { type: 'button', class: 'small' }) : undefined;
  if (button && act) button.addEventListener('click', act);
  const [title, ...rest] = text.split(/(?<=\.) /);
  const more = rest.length ? h('p', { class: 'body' }, rest.join(' ')) : undefined;
  return banner(kind, more ? title.slice(0, -1) : title, more, button && h('div', { class: 'row' }, button));
}
