/** One's own screen, shared with the others. */
import { t } from '../i18n.js';
import { announce } from '../page.js';
import { toast } from './dom.js';

/** @typedef {import('../room.js').Room} Room */

/** Phones can't. */
export const canShare = Boolean(globalThis.navigator?.mediaDevices && 'getDisplayMedia' in navigator.mediaDevices);

/** @type {DisplayMediaStreamOptions & Record<string, unknown>} */
const WANTED = { video: { frameRate: { ideal: 15 } }, audio: true, systemAudio: 'include', selfBrowserSurface: 'exclude', surfaceSwitching: 'include' };

export class Sharing {
  /** @param {Room} room @param {() => void} onChange */
  constructor(room, onChange) {
    this._room = room;
    this._onChange = onChange;
    /** @type {MediaStream | undefined} */
    this._screen = undefined;
    this._isChoosing = false;
    room.on('ended-track', (role) => role === 'screen' && this.stop());
  }

  get isOn() {
    return this._screen !== undefined;
  }

  toggle() {
    if (this.isOn) this.stop();
    else void this._start();
  }

  async _start() {
    if (!canShare || this._isChoosing) return;
    this._isChoosing = true;
    try {
      this._screen = await navigator.mediaDevices.getDisplayMedia(WANTED);
    } catch (error) {
      const isOwnChoice = error instanceof Error && error.name === 'NotAllowedError' && !/system/i.test(error.message);
      if (!isOwnChoice) toast(t('room.screen.failed'));
      return;
    } finally {
      this._isChoosing = false;
    }
    if (this._room.phase !== 'joined') return this.stop(); // the call has ended meanwhile
    const [picture] = this._screen.getVideoTracks();
    void this._room.setTrack('screen', picture);
    void this._room.setTrack('screenAudio', this._screen.getAudioTracks()[0] ?? null);
    announce(t('room.notice.sharing'));
    this._onChange();
  }

  /** Sharp, as a text has to be, or smooth, as a film. */
  changeContent() {
    const isFilm = this._room.screenContent === 'motion';
    this._room.setScreenContent(isFilm ? 'detail' : 'motion');
    announce(t(isFilm ? 'room.screen.isSharp' : 'room.screen.isSmooth'));
  }

  stop() {
    if (!this._screen) return;
    for (const track of this._screen.getTracks()) track.stop();
    this._screen = undefined;
    void this._room.setTrack('screen', null);
    void this._room.setTrack('screenAudio', null);
    announce(t('room.screen.stopped'));
    this._onChange();
  }
}
