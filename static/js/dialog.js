/** A question before something that can't be taken back. */
import { t } from './i18n.js';
import { h } from './page.js';

/**
 * @param {string} title
 * @param {string} text
 * @param {string} yes what the button that does it says
 * @param {string} [no] what the other one says
 * @returns {Promise<boolean>}
 */
export function confirmed(title, text, yes, no = t('page.cancel')) {
  const buttons = [h('button', { id: 'ask-no', autofocus: true }, no), h('button', { id: 'ask-yes', value: 'yes', class: 'danger' }, yes)];
  const form = h('form', { method: 'dialog', class: 'stack' }, h('h2', { id: 'ask-title' }, title), h('p', { id: 'ask-text' }, text), h('div', { class: 'actions' }, ...buttons));
  const dialog = h('dialog', { id: 'ask-dialog', 'aria-labelledby': 'ask-title', 'aria-describedby': 'ask-text' }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
  });
}
