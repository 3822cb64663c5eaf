/** The sheet of the keyboard shortcuts, and whether single letters act. */
import { t } from '../i18n.js';
import { h } from '../page.js';
import { CONTROLS } from './controls.js';
import { openDialog, said } from './dom.js';
import { WITH_CONTROL } from './keys.js';
import { recall, remember } from './memory.js';

/** Made anew each time, in the language of the moment. */
export function showKeys() {
  const box = h('input', { id: 'single-keys', type: 'checkbox' });
  box.checked = recall('keys', true);
  box.addEventListener('change', () => remember('keys', box.checked));
  const made = h(
    'dialog',
    { id: 'keys-dialog', 'aria-labelledby': 'keys-title' },
    h(
      'div',
      { class: 'stack' },
      said('h2', 'room.keys.title', { id: 'keys-title', tabindex: '-1' }),
      h('dl', { id: 'keys-list', class: 'keys' }, ...CONTROLS.filter(({ key }) => key).map(line)),
      h('label', { class: 'switch', for: 'single-keys' }, box, said('span', 'room.keys.single')),
      h('div', { class: 'actions' }, said('button', 'notice.close', { type: 'button', 'data-close-dialog': true })),
    ),
  );
  made.addEventListener('close', () => made.remove());
  document.body.append(made);
  openDialog(made);
}

/** @param {import('./controls.js').Control} row */
function line({ key = '', text, help = text }) {
  const control = Object.keys(WITH_CONTROL).find((one) => WITH_CONTROL[one] === key);
  const modifier = /Mac|iP/.test(navigator.userAgent) ? '⌘' : 'Ctrl';
  const shown = key === ' ' ? t('room.keys.space') : key.toUpperCase();
  const also = control ? [` ${t('room.keys.or')} `, h('kbd', {}, modifier), '+', h('kbd', {}, control.toUpperCase())] : [];
  return h('div', {}, h('dt', {}, h('kbd', {}, shown), ...also), h('dd', {}, t(help)));
}
