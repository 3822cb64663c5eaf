/** The dialog in which one chooses how the pictures stand. */
import { t } from '../i18n.js';
import { h } from '../page.js';
import { openDialog, said, toast } from './dom.js';
import { remember } from './memory.js';

/** @typedef {import('./seats.js').Seats} Seats */
/** @typedef {import('./seats.js').View} View */

/** How each is called. @type {Record<View, string>} */
const VIEWS = { grid: 'room.view.grid', speaker: 'room.view.speaker', sidebar: 'room.view.sidebar' };
/** What each does, in words. @type {Record<View, string>} */
const HINTS = { grid: 'room.view.gridHint', speaker: 'room.view.speakerHint', sidebar: 'room.view.sidebarHint' };

/** @type {HTMLDialogElement | undefined} */
let dialog;

/** @param {Seats} seats */
export function chooseView(seats) {
  dialog ??= make(seats);
  const boxes = /** @type {HTMLInputElement[]} */ ([...dialog.querySelectorAll('input')]);
  const chosen = boxes.find(({ value }) => value === seats.view) ?? boxes[0];
  chosen.checked = true;
  openDialog(dialog);
  chosen.focus();
}

/** @param {Seats} seats @param {View} view */
function show(seats, view) {
  seats.view = view;
  remember('view', view);
  seats.arrange();
}

/** The next one. @param {Seats} seats */
export function nextView(seats) {
  const views = /** @type {View[]} */ (Object.keys(VIEWS));
  show(seats, views[(views.indexOf(seats.view) + 1) % views.length]);
  toast(t(VIEWS[seats.view]));
}

export function fillScreen() {
  if (!document.fullscreenEnabled) return;
  if (document.fullscreenElement) void document.exitFullscreen();
  else void document.documentElement.requestFullscreen({ navigationUI: 'hide' }).catch(() => {});
}

/** @param {Seats} seats */
function make(seats) {
  const title = said('h2', 'room.view.title', { id: 'view-title' });
  const choices = h('div', { class: 'stack', role: 'radiogroup', 'aria-labelledby': 'view-title' });
  for (const [view, name] of /** @type {[View, string][]} */ (Object.entries(VIEWS))) {
    const box = h('input', { type: 'radio', name: 'view', value: view, 'aria-describedby': `view-${view}` });
    box.addEventListener('change', () => show(seats, view));
    const picture = h('span', { class: `view-picture ${view}`, 'aria-hidden': 'true' }, ...'1234'.slice(view === 'speaker' ? 2 : 0).split('').map(() => h('i')));
    const words = h('span', { class: 'line-text' }, said('b', name), said('span', HINTS[view], { id: `view-${view}`, class: 'hint' }));
    choices.append(h('label', { class: 'view' }, box, picture, words));
  }
  const close = said('button', 'notice.close', { type: 'button', 'data-close-dialog': true });
  const made = h('dialog', { 'aria-labelledby': 'view-title' }, h('div', { class: 'stack' }, title, choices, h('div', { class: 'actions' }, close)));
  document.body.append(made);
  return made;
}
