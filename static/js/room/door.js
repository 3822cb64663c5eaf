/** Before the call: what one looks and sounds like, the devices, the name. */
import { ApiError } from '../api.js';
import { fieldError, wireForm } from '../forms.js';
import { formatList, isolated, onLanguage, t } from '../i18n.js';
import { banner, byId, errorBanner, h } from '../page.js';
import { dress, faultBanner, said } from './dom.js';
import { recall, remember } from './memory.js';
import { visible } from './names.js';

/** @typedef {import('./devices.js').Devices} Devices */
/** @typedef {import('./devices.js').Kind} Kind */

/** Why one can't enter yet: whoever waits comes in when it has passed. @type {Record<string, string>} */
const PASSING = {
  room_full: 'room.door.full',
  room_locked: 'room.door.locked',
  lobby_full: 'room.door.lobbyFull',
};
const LOOK = 3_000; // ms between two looks for a place
const NAMED = 5; // of those inside; the others are counted
/** Old browsers can't, nor those in some programs, nor where a rule forbids it. */
export const canCall = 'RTCPeerConnection' in globalThis;
const SWITCHES = /** @type {const} */ (['video', 'audio']);

export class Door {
  /**
   * @param {string} roomId
   * @param {Devices} devices
   * @param {{ turn: (kind: Kind, on: boolean) => void, join: (as: { displayName: string, password?: string }) => Promise<void>,
   *   look: () => Promise<unknown>, onGone: (code: string) => void }} acts
   */
  constructor(roomId, devices, acts) {
    this._roomId = roomId;
    this._devices = devices;
    this._acts = acts;
    /** What the server tells before one is in. @type {any} */
    this.info = undefined;
    /** Why one was not let in. */
    this._refusal = '';
    /** Ends the wait for a place. @type {AbortController | undefined} */
    this._wait = undefined;
    this._video = /** @type {HTMLVideoElement} */ (byId('preview-video'));
    this._name = /** @type {HTMLInputElement} */ (byId('name'));
    this._password = /** @type {HTMLInputElement} */ (byId('password'));
    this._form = /** @type {HTMLFormElement} */ (byId('join-form'));
    this._wire();
    if (!canCall) byId('join').setAttribute('aria-disabled', 'true'); // nobody is to meet a ghost
    devices.addEventListener('change', () => this.render());
    onLanguage(() => {
      this.render();
      const code = this._refusal;
      this._refusal = '';
      if (code) this._sayRefusal(code);
    });
  }

  /** What is remembered of this room in this browser. */
  get _memory() {
    return `for.${this._roomId}`;
  }

  /** The switches and the name as they were last time, before any device is asked for. */
  restore() {
    const { audio, video, name } = recall(this._memory, { audio: true, video: true, name: recall('name', '') });
    Object.assign(this._devices.on, { audio, video });
    this._name.value = new URLSearchParams(location.search).get('name') || name;
  }

  remember() {
    const { audio, video } = this._devices.on;
    const name = this._name.value.trim();
    remember(this._memory, { audio, video, name });
    if (name) remember('name', name);
  }

  _wire() {
    for (const kind of SWITCHES) {
      byId(`door-${kind}`).addEventListener('click', () => {
        this._acts.turn(kind, !this._devices.on[kind]);
        this.remember();
      });
    }
    byId('door-flip').addEventListener('click', () => void this._devices.flip());
    wireForm(this._form, {
      check: () => fieldError(this._name, visible(this._name.value) ? undefined : () => t('room.door.needName')),
      send: () => this._join(),
      codes: { wrong_password: ['password', 'room.door.wrongPassword'] },
      refused: (error) => this._refused(error),
    });
  }

  /** Whether one waits for a place. */
  get isWaiting() {
    return this._wait !== undefined;
  }

  /** Come in; where it is full or locked wait, and come in then. */
  async _join() {
    this.remember();
    this._refusal = '';
    const as = { displayName: this._name.value.trim(), password: this._password.value || undefined };
    const wait = new AbortController();
    try {
      for (let why = await this._try(as); why; why = await this._try(as)) {
        this._wait = wait;
        this._sayRefusal(why);
        await this._placeFree(wait.signal);
        if (wait.signal.aborted) return;
      }
      this._password.value = '';
    } finally {
      this.stopWaiting();
    }
  }

  /** @param {{ displayName: string, password?: string }} as @returns {Promise<string>} what one has to wait for; empty: one is in */
  async _try(as) {
    try {
      await this._acts.join(as);
      return '';
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.code in PASSING) return error.code;
      // Whoever waits outlasts a server that is busy, or starts anew.
      const isPassing = !error.status || error.status === 429 || error.status >= 500;
      if (isPassing && this.isWaiting) return this._refusal;
      throw error;
    }
  }

  /** Until there may be a place. @param {AbortSignal} signal of one who no longer waits */
  async _placeFree(signal) {
    do {
      await pause(LOOK, signal);
      if (!signal.aborted) await this._acts.look();
      if (!signal.aborted && this._obstacle) this._sayRefusal(this._obstacle); // it may be another one now
    } while (!signal.aborted && this._obstacle);
  }

  /** What one would have to wait for. */
  get _obstacle() {
    const { locked, full } = this.info ?? {};
    return locked ? 'room_locked' : full ? 'room_full' : '';
  }

  stopWaiting() {
    if (!this._wait) return;
    this._wait.abort();
    this._wait = undefined;
    this._refusal = '';
    this._errors.replaceChildren();
    this.render();
  }

  /** Enter without a click, where the server allows it: a screen on a wall. */
  enter() {
    this._form.requestSubmit();
  }

  /** Say why one who was in before doesn't come in again. @param {ApiError} error */
  refuse(error) {
    if (error.code in PASSING) this.enter(); // by waiting for it
    else if (!this._refused(error)) this._errors.replaceChildren(errorBanner(error));
  }

  /** @param {ApiError} error */
  _refused(error) {
    const { code } = error;
    if (code === 'not_found' || code === 'removed') {
      this._acts.onGone(code);
      return true;
    }
    if (code === 'wrong_password' && byId('password-field').hidden) {
      this._showPassword(true); // set since the page was opened
      fieldError(this._password, () => t('room.door.needPassword'));
      this._password.focus();
      return true;
    }
    if (code !== 'unauthorized') return false;
    this._sayRefusal(code);
    return true;
  }

  get _errors() {
    return /** @type {HTMLElement} */ (this._form.querySelector('.form-error'));
  }

  /** Once, however often it is found so. @param {string} code */
  _sayRefusal(code) {
    if (this._refusal === code) return;
    this._refusal = code;
    const hadFocus = this._errors.contains(document.activeElement);
    this._errors.replaceChildren(code in PASSING ? this._waiting(code) : needsSignIn());
    if (hadFocus) this._errors.querySelector('button')?.focus();
    this.render();
  }

  /** @param {string} code */
  _waiting(code) {
    const stop = said('button', 'room.lobby.leave', { type: 'button', class: 'small' });
    stop.addEventListener('click', () => {
      this.stopWaiting();
      byId('join').focus();
    });
    return banner('info', t(PASSING[code]), said('p', 'room.door.waits', { class: 'body' }), h('div', { class: 'row' }, stop));
  }

  /** @param {any} info */
  show(info) {
    this.info = info;
    if (!this.isWaiting) this._showPassword(info.hasPassword); // whoever waits is asked when it is time
    this.render();
  }

  /** @param {boolean} isNeeded */
  _showPassword(isNeeded) {
    byId('password-field').hidden = !isNeeded;
  }

  render() {
    const { on, tracks, asking, lists } = this._devices;
    byId('door-title').textContent = this.info?.name ?? t('room.door.title');
    byId('door-hint').textContent = this._hint();
    byId('door-hint').hidden = this.isWaiting;
    byId('door-inside').textContent = this._inside();
    byId('lobby-room').textContent = byId('door-title').textContent;
    this._preview(tracks.video);
    byId('preview-note').textContent = this._note();
    byId('door-flip').hidden = !tracks.video || lists.video.length < 2;
    dress(byId('door-audio'), switchLook('audio', on.audio && !this._devices.faults.audio));
    dress(byId('door-video'), switchLook('video', on.video && !this._devices.faults.video));
    dress(byId('door-flip'), { icon: 'flip', label: t('room.flip') });
    this._video.hidden = !tracks.video || asking.video;
    this._faults();
  }

  _hint() {
    if (this._obstacle) return `${t(PASSING[this._obstacle])} ${t('room.door.willWait')}`;
    return t(this.info?.lobby ? 'room.door.hasLobby' : 'room.door.hint');
  }

  /** Who is inside, as far as the server tells: names, a number, or nothing. */
  _inside() {
    const { participants, participantCount: count = participants?.length } = this.info ?? {};
    if (count === undefined) return '';
    if (!participants || !count) return t(count ? 'room.door.insideCount' : 'room.door.nobody', { count });
    const names = participants.map((/** @type {any} */ one) => isolated(visible(one.displayName ?? one) || t('room.guest')));
    const rest = names.splice(NAMED).length;
    if (rest) names.push(t('room.door.others', { count: rest }));
    return t('room.door.inside', { names: formatList(names) });
  }

  _note() {
    const { on, tracks, asking } = this._devices;
    if (asking.video || asking.audio) return t('room.door.asking');
    if (tracks.video) return '';
    return t(on.video ? 'room.door.noPicture' : 'room.door.cameraOff');
  }

  /** @param {MediaStreamTrack | undefined} track */
  _preview(track) {
    const shown = /** @type {MediaStream | null} */ (this._video.srcObject)?.getVideoTracks()[0];
    if (shown === track) return;
    this._video.srcObject = track ? new MediaStream([track]) : null;
    this._video.classList.toggle('mirrored', track?.getSettings().facingMode !== 'environment');
    if (track) void this._video.play().catch(() => {}); // a switch in between ends it
  }

  _faults() {
    const { faults, on } = this._devices;
    const shown = SWITCHES.filter((kind) => faults[kind] && on[kind]);
    const state = JSON.stringify([shown.map((kind) => [kind, faults[kind]]), document.documentElement.lang]);
    const place = byId('door-faults');
    if (place.dataset.state === state) return; // else it would be said again and again
    place.dataset.state = state;
    if (!canCall) return place.replaceChildren(noCalls());
    const isSame = shown.length > 1 && faults.audio === faults.video;
    const banners = (isSame ? [shown] : shown.map((kind) => [kind])).map((kinds) =>
      faultBanner(kinds, /** @type {import('./devices.js').Fault} */ (faults[kinds[0]]), () => this._again(kinds), this._devices),
    );
    const test = () => said('a', 'test.link', { href: new URL('../test', location.href).href, target: '_blank' });
    const more = banners.length ? [said('p', 'room.door.without', { class: 'hint' }), h('p', {}, test())] : [];
    place.replaceChildren(...banners, ...more);
  }

  /** Both in one question where both failed. @param {Kind[]} kinds */
  _again(kinds) {
    if (kinds.length > 1) void this._devices.start();
    else this._acts.turn(kinds[0], true);
  }

  /** Oneself is seen before the room, and in its lobby. @param {string} part of the page */
  showMirror(part) {
    if (part === 'lobby') byId('lobby-title').after(byId('mirror'));
    else byId('door-columns').prepend(byId('mirror'));
    if (this._video.srcObject) void this._video.play().catch(() => {});
  }

  /** The preview's camera is shown elsewhere now. */
  close() {
    this.stopWaiting();
    this._video.srcObject = null;
  }
}

function noCalls() {
  const made = banner('error', t('room.door.noCalls'), h('p', { class: 'body' }, t('room.fix.otherBrowser')));
  made.dataset.notice = 'no-calls';
  return made;
}

function needsSignIn() {
  const link = said('a', 'signin.button', { href: new URL('..', location.href).href });
  return banner('warn', t('room.door.signIn'), h('p', { class: 'body' }, link));
}

/** @param {number} ms @param {AbortSignal} signal ends it sooner @returns {Promise<void>} */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', over);
      resolve();
    };
    const timer = setTimeout(over, ms);
    signal.addEventListener('abort', over);
  });
}

/** How the button of a microphone or camera looks. @param {Kind} kind @param {boolean} on */
export function switchLook(kind, on) {
  const [name, hint, label] =
    kind === 'audio'
      ? [on ? 'mic' : 'mic-off', on ? 'room.mic.turnOff' : 'room.mic.turnOn', 'room.mic.short']
      : [on ? 'camera' : 'camera-off', on ? 'room.camera.turnOff' : 'room.camera.turnOn', 'room.camera.short'];
  return { icon: name, label: t(label), hint: t(hint), text: t(label), pressed: on };
}
