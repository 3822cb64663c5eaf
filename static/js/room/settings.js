/** What the reader has chosen for calls in this browser, and the dialog for it. */
import { byId } from '../page.js';
import { withPart, openDialog } from './dom.js';
import { recall, remember } from './memory.js';

/** @typedef {'mirror' | 'sounds' | 'hideSelf' | 'notify'} Option */

/** By their boxes. @type {[string, Option][]} */
const BOXES = [['mirror-self', 'mirror'], ['sounds', 'sounds']];

export class Settings {
  /** @param {import('./call.js').Call} call @param {import('./pickers.js').Pickers} pickers @param {() => void} onChange */
  constructor(call, pickers, onChange) {
    this._call = call;
    this._pickers = pickers;
    this._onChange = onChange;
    /** @type {Record<Option, boolean>} */
    this.options = recall('options', { mirror: true, sounds: true, hideSelf: false, notify: false });
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

  open() {
    byId('settings-devices').append(this._pickers.element);
    withPart(import('./notify.js'), ({ addSwitch }) => addSwitch(this));
    withPart(import('./tuning.js'), ({ tuning }) => tuning(this._call));
    openDialog(/** @type {HTMLDialogElement} */ (byId('settings-dialog')));
  }
}
