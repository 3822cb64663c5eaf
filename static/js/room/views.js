/** The dialog in which one chooses how the pictures stand. */
import { t } from '../i18n.js';
import { h } from '../page.js';
import { openDialog, said, toast } from './dom.js';
import { VIEWS } from './seats.js';

/** @typedef {import('./seats.js').Seats} Seats */
/** @typedef {import('./seats.js').View} View */

/** What each does, in words. @type {Record<View, string>} */
const HINTS = { grid: 'room.view.gridHint', speaker: 'room.view.speakerHint', sidebar: 'room.view.sidebarHint' };

/** @type {HTMLDialogElement | undefined} */
let dialog;

/** @param {Seats} seats */
export function chooseView(seats) {
  dialog ??= make(seats);
  const chosen = /** @type {HTMLInputElement} */ (dialog.querySelector(`[value="${seats.view}"]`));
  chosen.checked = true;
  openDialog(dialog);
  chosen.focus();
}

/** The next one. @param {Seats} seats */
export function nextView(seats) {
  const views = /** @type {View[]} */ (Object.keys(VIEWS));
  seats.show(views[(views.indexOf(seats.view) + 1) % views.length]);
  toast(t(VIEWS[seats.view]));
}

/** @param {Seats} seats */
function make(seats) {
  const title = said('h2', 'room.view.title', { id: 'view-title' });
  const choices = h('div', { class: 'stack', role: 'radiogroup', 'aria-labelledby': 'view-title' });
  for (const [view, name] of /** @type {[View, string][]} */ (Object.entries(VIEWS))) {
    const box = h('input', { type: 'radio', name: 'view', value: view, 'aria-describedby': `view-${view}` });
    box.addEventListener('change', () => seats.show(view));
    const picture = h('span', { class: `view-picture ${view}`, 'aria-hidden': 'true' }, ...'1234'.slice(view === 'speaker' ? 2 : 0).split('').map(() => h('i')));
    const words = h('span', { class: 'line-text' }, said('b', name), said('span', HINTS[view], { id: `view-${view}`, class: 'hint' }));
    choices.append(h('label', { class: 'view' }, box, picture, words));
  }
  const close = said('button', 'notice.close', { type: 'button', 'data-close-dialog': true });
  const made = h('dialog', { 'aria-labelledby': 'view-title' }, h('div', { class: 'stack' }, title, choices, h('div', { class: 'actions' }, close)));
  document.body.append(made);
  return made;
}
