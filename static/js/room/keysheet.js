/** The sheet that shows the keyboard shortcuts, and lets single letters be switched off. */
import { onLanguage, t } from '../i18n.js';
import { byId, h } from '../page.js';
import { openDialog, said } from './dom.js';
import { singles, WITH_CONTROL } from './keys.js';
import { remember } from './memory.js';
import { makeDialog } from './parts.js';

/** @typedef {import('./keys.js').Shortcut} Shortcut */

/** @type {HTMLDialogElement | undefined} */
let dialog;

/** @param {Shortcut[]} shortcuts */
export function showSheet(shortcuts) {
  dialog ??= make(shortcuts);
  openDialog(dialog);
}

/** @param {Shortcut[]} shortcuts */
function make(shortcuts) {
  const list = h('dl', { id: 'keys-list', class: 'keys' });
  const box = h('input', { id: 'single-keys', type: 'checkbox' });
  box.checked = singles.on;
  box.addEventListener('change', () => {
    singles.on = box.checked;
    remember('keys', box.checked);
  });
  const single = h('label', { class: 'switch', for: 'single-keys' }, box, said('span', 'room.keys.single'));
  const made = makeDialog('keys', 'room.keys.title', [list, single]);
  const render = () => byId('keys-list').replaceChildren(...shortcuts.map(line));
  onLanguage(render);
  render();
  return made;
}

/** @param {Shortcut} shortcut */
function line({ key, text }) {
  const control = Object.keys(WITH_CONTROL).find((one) => WITH_CONTROL[one] === key);
  const modifier = /Mac|iP/.test(navigator.userAgent) ? '⌘' : 'Ctrl';
  const shown = key === ' ' ? t('room.keys.space') : key.toUpperCase();
  const also = control ? [` ${t('room.keys.or')} `, h('kbd', {}, modifier), '+', h('kbd', {}, control.toUpperCase())] : [];
  return h('div', {}, h('dt', {}, h('kbd', {}, shown), ...also), h('dd', {}, t(text)));
}
