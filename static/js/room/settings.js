/** What the reader has chosen for calls in this browser, and the dialog for it. */
import { t } from '../i18n.js';
import { announce, byId } from '../page.js';
import { openDialog, withPart } from './dom.js';
import { recall, remember } from './memory.js';

/** @typedef {'mirror' | 'sounds' | 'hideSelf'} Option */
/** @typedef {import('../encoder.js').Data} Data */

/** By their boxes. @type {[string, Option][]} */
const BOXES = [['mirror-self', 'mirror'], ['sounds', 'sounds']];

/** @type {Record<Data, string>} */
const DATA = { all: 'room.data.all', low: 'room.data.low', audio: 'room.data.audio' };

export class Settings {
  /** @param {import('./call.js').Call} call @param {import('./pickers.js').Pickers} pickers @param {() => void} onChange */
  constructor(call, pickers, onChange) {
    this._call = call;
    this.pickers = pickers;
    this._onChange = onChange;
    /** What it was before there were no pictures. @type {{ data: Data, hasCamera: boolean }} */
    this._before = { data: 'all', hasCamera: false };
    /** @type {Record<Option, boolean>} */
    this.options = recall('options', { mirror: true, sounds: true, hideSelf: false });
    for (const [id, option] of BOXES) {
      const box = /** @type {HTMLInputElement} */ (byId(id));
      box.checked = this.options[option];
      box.addEventListener('change', () => this.set(option, box.checked));
    }
  }

  /** @param {Option} option @param {boolean} on */
  set(option, on) {
    this.options[option] = on;
    remember('options', this.options);
    this._onChange();
  }

  /** For this call. One's own camera goes out with the pictures, and comes back with them. @param {Data} data @param {boolean} [hasCamera] */
  setData(data, hasCamera = this._before.hasCamera) {
    const { room, devices, turn } = this._call;
    const { data: was } = room;
    if (data === was) return;
    if (data === 'audio') this._before = { data: was, hasCamera: devices.on.video };
    room.setData(data);
    if (data === 'audio') turn('video', false);
    else if (was === 'audio' && hasCamera) turn('video', true);
    announce(t(DATA[data]));
    this._onChange();
  }

  /** @param {boolean} [hasCamera] afterwards, other than before */
  toggleAudioOnly(hasCamera) {
    this.setData(this._call.room.data === 'audio' ? this._before.data : 'audio', hasCamera);
  }

  open() {
    const place = byId('settings-devices');
    place.replaceChildren(this.pickers.element);
    withPart(import('./tuning.js'), ({ tuning }) => place.replaceChildren(this.pickers.element, tuning(this._call)));
    openDialog(/** @type {HTMLDialogElement} */ (byId('settings-dialog')));
  }
}
