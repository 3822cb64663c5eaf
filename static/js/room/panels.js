/** What stands beside the pictures, one at a time: the chat, and who is there. */
import { t } from '../i18n.js';
import { byId, isComposing } from '../page.js';
import { dress } from './dom.js';

/** @typedef {'chat' | 'people'} Panel */

const PANELS = /** @type {const} */ (['chat', 'people']);

export class Panels {
  /** @param {(panel: Panel) => void} onShow */
  constructor(onShow) {
    this._onShow = onShow;
    /** @type {Panel | ''} */
    this.shown = '';
    for (const panel of PANELS) {
      byId(panel).addEventListener('keydown', (event) => {
        if (event.key === 'Escape' && !event.defaultPrevented && !isComposing(event)) this.close();
      });
      closer(panel).addEventListener('click', () => this.close());
    }
  }

  render() {
    for (const panel of PANELS) dress(closer(panel), { icon: 'close', label: t('notice.close') });
  }

  /** @param {Panel} panel */
  toggle(panel) {
    if (this.shown === panel) this.close();
    else this.open(panel);
  }

  /** @param {Panel} panel */
  open(panel) {
    this._set(panel);
    // The chat's field comes with what shows it.
    ((panel === 'chat' && document.getElementById('chat-text')) || byId(`${panel}-title`)).focus();
    this._onShow(panel);
  }

  /** The focus comes back to what opened it, where that is to be seen. */
  close() {
    const was = this.shown;
    this._set('');
    if (was) [byId(`open-${was}`), byId('more')].find((one) => one.offsetParent)?.focus();
  }

  /** @param {Panel | ''} shown */
  _set(shown) {
    this.shown = shown;
    for (const panel of PANELS) {
      byId(panel).hidden = panel !== shown;
      byId(`open-${panel}`).setAttribute('aria-expanded', String(panel === shown));
    }
    byId('call').dataset.panel = shown;
  }
}

/** @param {Panel} panel */
const closer = (panel) => /** @type {HTMLElement} */ (document.querySelector(`[data-close="${panel}"]`));
