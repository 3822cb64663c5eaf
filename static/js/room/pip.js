/**
 * The call in a small window that stays above all others: who speaks, oneself, and the buttons that
 * one needs there. Where the browser gives no such window, a video's own (W3C Picture-in-Picture):
 * its buttons are those of the Media Session.
 */
import { t } from '../i18n.js';
import { h } from '../page.js';
import { CONTROLS } from './controls.js';
import { dress, toast } from './dom.js';
import { nameOf } from './names.js';
import { initials, TONES } from './seats.js';

/** @typedef {import('./call.js').Call} Call */

const SIZE = { width: 360, height: 260 };
const STYLES = ['css/base.css', 'css/room.css', 'css/pip.css'].map((path) => new URL(`../../${path}`, import.meta.url).href);
/** What changes what it shows. */
const NEWS = ['self', 'changed', 'added', 'removed', 'speaker', 'phase'];
/** The Media Session's words for what the table has. @type {[string, string][]} */
const ACTIONS = [['togglemicrophone', 'audio'], ['togglecamera', 'video'], ['hangup', 'leave']];

/** The one that is open. @type {Pip | undefined} */
let shown;

/** Open it, or close it. @param {Call} call */
export async function togglePip(call) {
  if (shown) return shown.close();
  const made = new Pip(call);
  shown = made;
  try {
    await made.open();
  } catch (error) {
    console.warn('pip:', error);
    made.close();
    toast(t('room.pip.failed'));
  }
}

class Pip {
  /** @param {Call} call */
  constructor(call) {
    this._call = call;
    this._closed = new AbortController();
    this._video = video();
    this._own = video();
    this._face = h('div', { class: 'face', 'aria-hidden': 'true' });
    this._name = h('bdi', { class: 'name' });
    this._buttons = CONTROLS.filter(({ id }) => ACTIONS.some(([, row]) => row === id)).map((row) => ({ row, button: button(call, row) }));
  }

  async open() {
    const { room, devices } = this._call;
    const { signal } = this._closed;
    const plan = () => queueMicrotask(() => this._render()); // the seats stand as they will then
    for (const name of NEWS) {
      room.on(name, plan);
      signal.addEventListener('abort', () => room.off(name, plan));
    }
    devices.addEventListener('change', plan, { signal });
    const { documentPictureInPicture: windows } = /** @type {any} */ (globalThis);
    this._render();
    if (windows) this._fill(await windows.requestWindow(SIZE));
    else await this._float();
  }

  /** @param {Window} window */
  _fill(window) {
    if (this._closed.signal.aborted) return window.close(); // the call has ended meanwhile
    const { document: inside } = window;
    const { documentElement: root } = document;
    for (const { name, value } of root.attributes) inside.documentElement.setAttribute(name, value);
    inside.head.append(h('title', {}, document.title), ...STYLES.map((href) => h('link', { rel: 'stylesheet', href })));
    const large = h('div', { class: 'seat', role: 'group' }, this._video, this._face, h('p', { class: 'tag' }, this._name));
    this._seat = large;
    const buttons = h('div', { class: 'controls', role: 'toolbar', 'aria-label': t('room.controls') }, ...this._buttons.map(({ button: one }) => one));
    const sprite = /** @type {Element} */ (document.querySelector('.sprite')).cloneNode(true);
    this._mine = h('div', { class: 'seat own with-picture' }, this._own);
    inside.body.append(sprite, h('main', { class: 'pip' }, large, this._mine, buttons));
    window.addEventListener('pagehide', () => this.close());
    this._window = window;
    this._render();
  }

  async _float() {
    const large = this._video;
    if (!large.srcObject) throw new Error('nobody shows a picture');
    large.classList.add('visually-hidden');
    document.body.append(large);
    if (large.readyState < large.HAVE_METADATA) await new Promise((resolve) => large.addEventListener('loadedmetadata', resolve, { once: true }));
    await large.requestPictureInPicture();
    large.addEventListener('leavepictureinpicture', () => this.close());
    this._act(true);
  }

  /** @param {boolean} on whether the Media Session's buttons do what ours do */
  _act(on) {
    for (const [action, id] of ACTIONS) {
      const act = () => CONTROLS.find((row) => row.id === id)?.act?.(this._call);
      try {
        navigator.mediaSession.setActionHandler(/** @type {MediaSessionAction} */ (action), on ? act : null);
      } catch {
        // A browser without that button.
      }
    }
  }

  /** Who is seen: who speaks, else the first of the others, else oneself. */
  get _person() {
    const { participants, speaker, self } = this._call.room;
    const others = participants.filter(({ isSelf }) => !isSelf);
    const withPicture = this._window ? [] : others.filter(({ streams }) => streams.camera); // a video's own has no names
    return [...withPicture.filter((one) => one === speaker), ...withPicture, speaker, ...others, self].find(Boolean);
  }

  _render() {
    const { room, seats, settings } = this._call;
    if (this._closed.signal.aborted) return;
    if (room.phase !== 'joined') return this.close();
    const person = this._person;
    if (!person) return;
    show(this._video, person.streams.camera);
    show(this._own, room.self?.streams.camera ?? null);
    if (seats.outside?.person !== person) {
      seats.outside = { person, ...SIZE };
      seats.arrange();
    }
    this._face.textContent = initials(nameOf(person));
    this._face.dataset.tone = String(person.id % TONES);
    this._name.textContent = nameOf(person);
    this._seat?.setAttribute('aria-label', nameOf(person));
    this._seat?.classList.toggle('with-picture', Boolean(person.streams.camera));
    const { mirror, hideSelf } = settings.options;
    this._mine?.classList.toggle('mirrored', mirror);
    this._mine?.toggleAttribute('hidden', hideSelf || !this._own.srcObject);
    for (const { row, button: one } of this._buttons) dress(one, lookOf(this._call, row));
    const { mediaSession } = /** @type {any} */ (navigator);
    mediaSession?.setMicrophoneActive?.(this._call.isSending('audio'));
    mediaSession?.setCameraActive?.(this._call.isSending('video'));
  }

  close() {
    if (this._closed.signal.aborted) return;
    this._closed.abort();
    shown = undefined;
    this._call.seats.outside = undefined;
    this._call.seats.arrange();
    if (document.pictureInPictureElement === this._video) void document.exitPictureInPicture().catch(() => {});
    this._act(false);
    this._window?.close();
    for (const one of [this._video, this._own]) {
      one.srcObject = null;
      one.remove();
    }
  }
}

function video() {
  const made = h('video', { playsinline: true, autoplay: true });
  made.muted = true; // the seats play the sound
  return made;
}

/** @param {HTMLVideoElement} element @param {MediaStream | null} stream */
function show(element, stream) {
  if (element.srcObject !== stream) element.srcObject = stream;
  if (stream && element.paused) void element.play().catch(() => {});
}

/** @param {Call} call @param {import('./controls.js').Control} row */
function lookOf(call, { icon = '', text, look }) {
  return { icon, label: t(text), ...look?.(call), text: '' };
}

/** @param {Call} call @param {import('./controls.js').Control} row */
function button(call, { id, act, attributes }) {
  const made = h('button', { type: 'button', class: 'round', ...attributes, id });
  made.addEventListener('click', () => act?.(call));
  return made;
}
