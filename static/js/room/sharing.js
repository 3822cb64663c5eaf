/** One's own screen, shared with the others, and the picture of it that tells oneself so. */
import { t } from '../i18n.js';
import { announce, h } from '../page.js';
import { said, toast } from './dom.js';

/** @typedef {import('../room.js').Room} Room */

/** @type {DisplayMediaStreamOptions & Record<string, unknown>} */
const WANTED = { video: { frameRate: { ideal: 15 } }, audio: true, systemAudio: 'include', selfBrowserSurface: 'exclude', surfaceSwitching: 'include' };

/** Share it, or end that. @param {import('./call.js').Call} call @param {() => void} onChange */
export function share(call, onChange) {
  call.sharing ??= new Sharing(call.room, onChange);
  call.sharing.toggle();
}

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
    if (this._isChoosing) return;
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

  /**
   * Say in one's own seat of it what it shows, and how to stop. A screen that shows this page too has a
   * picture in a picture in a picture: it is small there, so that it ends soon. Only another tab can't.
   * @param {{ element: HTMLElement, video: HTMLVideoElement }} seat
   */
  dress({ element, video }) {
    const stop = said('button', 'room.screen.stop', { type: 'button', class: 'small' });
    stop.addEventListener('click', () => this.stop());
    element.append(h('div', { class: 'sharing', 'data-notice': 'sharing' }, said('p', 'room.notice.sharing'), stop));
    const look = () => {
      const { displaySurface } = this._screen?.getVideoTracks()[0]?.getSettings() ?? {};
      element.classList.toggle('nested', displaySurface !== 'browser');
    };
    video.addEventListener('resize', look); // perhaps it shows something else now
    look();
  }
}
