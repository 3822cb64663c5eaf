/** What the reader has chosen for calls in this browser, and the dialog for it. */
import { byId } from '../page.js';
import { onDemand, openDialog } from './dom.js';
import { recall, remember } from './memory.js';

/** @typedef {'mirror' | 'sounds' | 'hideSelf' | 'notify'} Option */

/** By their boxes. @type {[string, Option][]} */
const BOXES = [['mirror-self', 'mirror'], ['sounds', 'sounds']];

export class Settings {
  /** @param {import('./pickers.js').Pickers} pickers @param {() => void} onChange */
  constructor(pickers, onChange) {
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
    onDemand(() => import('./notify.js'), ({ addSwitch }) => addSwitch(this));
    openDialog(/** @type {HTMLDialogElement} */ (byId('settings-dialog')));
  }
}
