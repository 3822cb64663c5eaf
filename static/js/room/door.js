/** Before the call: what one looks and sounds like, the devices, the name. */
import { ApiError } from '../api.js';
import { fieldError, wireForm } from '../forms.js';
import { onLanguage, t } from '../i18n.js';
import { banner, byId, errorBanner, h } from '../page.js';
import { dress, said } from './dom.js';
import { faultBanner } from './faults.js';
import { recall, remember } from './memory.js';

/** @typedef {import('./devices.js').Devices} Devices */
/** @typedef {import('./devices.js').Kind} Kind */

/** Why one can't enter, besides a wrong password, in words. @type {Record<string, string>} */
const REFUSALS = {
  room_full: 'room.door.full',
  room_locked: 'room.door.locked',
  lobby_full: 'room.door.lobbyFull',
  unauthorized: 'room.door.signIn',
};
const SWITCHES = /** @type {const} */ (['video', 'audio']);

export class Door {
  /**
   * @param {string} roomId
   * @param {Devices} devices
   * @param {{ turn: (kind: Kind, on: boolean) => void, join: (as: { displayName: string, password?: string }) => Promise<void>, onGone: (code: string) => void }} acts
   */
  constructor(roomId, devices, acts) {
    this._roomId = roomId;
    this._devices = devices;
    this._acts = acts;
    /** What the server tells before one is in. @type {any} */
    this.info = undefined;
    /** Why one was not let in. */
    this._refusal = '';
    this._video = /** @type {HTMLVideoElement} */ (byId('preview-video'));
    this._name = /** @type {HTMLInputElement} */ (byId('name'));
    this._password = /** @type {HTMLInputElement} */ (byId('password'));
    this._form = /** @type {HTMLFormElement} */ (byId('join-form'));
    this._wire();
    devices.addEventListener('change', () => this.render());
    onLanguage(() => {
      this.render();
      if (this._refusal) this._sayRefusal();
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
      check: () => fieldError(this._name, this._name.value.trim() ? undefined : () => t('room.door.needName')),
      send: () => this._join(),
      codes: { wrong_password: ['password', 'room.door.wrongPassword'] },
      refused: (error) => this._refused(error),
    });
  }

  async _join() {
    this.remember();
    this._refusal = '';
    await this._acts.join({ displayName: this._name.value.trim(), password: this._password.value || undefined });
    this._password.value = '';
  }

  /** Enter without a click, where the server allows it: a screen on a wall. */
  enter() {
    this._form.requestSubmit();
  }

  /** Say why one who was in before doesn't come in again. @param {ApiError} error */
  refuse(error) {
    if (this._refused(error)) return;
    const place = /** @type {HTMLElement} */ (this._form.querySelector('.form-error'));
    place.replaceChildren(errorBanner(error));
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
    if (!(code in REFUSALS)) return false;
    this._refusal = code;
    this._sayRefusal();
    return true;
  }

  _sayRefusal() {
    const code = this._refusal;
    const place = /** @type {HTMLElement} */ (this._form.querySelector('.form-error'));
    const link = code === 'unauthorized' ? h('p', { class: 'body' }, said('a', 'signin.button', { href: new URL('..', location.href).href })) : undefined;
    place.replaceChildren(banner('warn', t(REFUSALS[code]), link));
  }

  /** @param {any} info */
  show(info) {
    this.info = info;
    this._showPassword(info.hasPassword);
    this.render();
  }

  /** @param {boolean} isNeeded */
  _showPassword(isNeeded) {
    byId('password-field').hidden = !isNeeded;
  }

  render() {
    const { on, tracks, asking, lists } = this._devices;
    byId('door-title').textContent = this.info?.name ?? t('room.door.title');
    byId('door-hint').textContent = t(this._hint());
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
    if (this.info?.locked) return 'room.door.isLocked';
    if (this.info?.full) return 'room.door.full';
    return this.info?.lobby ? 'room.door.hasLobby' : 'room.door.hint';
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
    const isSame = shown.length > 1 && faults.audio === faults.video;
    const banners = (isSame ? [shown] : shown.map((kind) => [kind])).map((kinds) =>
      faultBanner(kinds, /** @type {import('./devices.js').Fault} */ (faults[kinds[0]]), () => this._again(kinds)),
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

  /** The preview's camera is shown elsewhere now. */
  close() {
    this._video.srcObject = null;
  }
}

/** How the button of a microphone or camera looks. @param {Kind} kind @param {boolean} on */
export function switchLook(kind, on) {
  const [name, hint, label] =
    kind === 'audio'
      ? [on ? 'mic' : 'mic-off', on ? 'room.mic.turnOff' : 'room.mic.turnOn', 'room.mic.short']
      : [on ? 'camera' : 'camera-off', on ? 'room.camera.turnOff' : 'room.camera.turnOn', 'room.camera.short'];
  return { icon: name, label: t(label), hint: t(hint), text: t(label), pressed: on };
}
