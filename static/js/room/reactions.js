/** Reactions: an emoji floats over somebody's picture for a moment, and is said. */
import { t } from '../i18n.js';
import { announce, byId, errorTitle, h } from '../page.js';
import { toast } from './dom.js';
import { nameOf } from './names.js';
import { named, styled } from './parts.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('../room.js').Participant} Participant */

/** Those that the server knows, and what they are called. @type {Record<string, string>} */
const EMOJI = {
  '👍': 'room.react.yes',
  '❤️': 'room.react.heart',
  '😂': 'room.react.laugh',
  '👏': 'room.react.clap',
  '🎉': 'room.react.party',
  '😮': 'room.react.wow',
  '🤔': 'room.react.think',
  '👎': 'room.react.no',
};
const SHOWN = 4_000; // ms
const MOST = 8; // over one picture at once

await styled();

/** The choice, which stays open for more than one. @type {HTMLElement | undefined} */
let picker;

/** Open it, or close it. @param {Room} room */
export function choose(room) {
  picker ??= make(room);
  if (!picker.hidden) return close();
  picker.hidden = false;
  byId('react').setAttribute('aria-expanded', 'true');
  /** @type {HTMLElement} */ (picker.firstElementChild).focus();
}

/** @param {boolean} [back] whether the focus goes back to what opened it */
function close(back = true) {
  if (!picker || picker.hidden) return;
  picker.hidden = true;
  byId('react').setAttribute('aria-expanded', 'false');
  if (back) [byId('react'), byId('more')].find((one) => one.offsetParent)?.focus();
}

/** @param {Room} room */
function make(room) {
  const buttons = Object.entries(EMOJI).map(([emoji, name], at) => {
    const button = h('button', { type: 'button', tabindex: at ? '-1' : '0', 'data-emoji': emoji, ...named({ 'aria-label': name, title: name }) }, emoji);
    button.addEventListener('click', () => void react(room, emoji));
    return button;
  });
  const made = h('div', { id: 'reactions', class: 'reactions', role: 'toolbar', hidden: true, ...named({ 'aria-label': 'room.react.title' }) }, ...buttons);
  byId('controls').append(made);
  byId('react').setAttribute('aria-controls', made.id);
  made.addEventListener('keydown', (event) => {
    const at = buttons.findIndex((one) => one === document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + buttons.length, Home: 0, End: buttons.length - 1 }[event.key];
    if (event.key === 'Escape') close();
    else if (to !== undefined) buttons[to % buttons.length].focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  made.addEventListener('focusin', ({ target }) => buttons.forEach((one) => (one.tabIndex = one === target ? 0 : -1)));
  document.addEventListener('pointerdown', ({ target }) => {
    const isInside = target instanceof Node && (made.contains(target) || byId('controls').contains(target));
    if (!isInside) close(false);
  });
  return made;
}

/** One's own is seen at once. @param {Room} room @param {string} emoji */
async function react(room, emoji) {
  if (room.self) show(room.self, emoji);
  await room.react(emoji).catch((error) => toast(errorTitle(error)));
}

/** Over their picture, or in the middle where it isn't shown. @param {Participant} person @param {string} emoji */
export function show(person, emoji) {
  if (!Object.hasOwn(EMOJI, emoji)) return;
  const tiles = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('[data-tile]')]);
  const tile = tiles.find((one) => one.dataset.tile === person.clientId && one.offsetParent) ?? byId('stage');
  const shown = tile.querySelectorAll('.reaction');
  if (shown.length >= MOST) shown[0].remove();
  const mark = h('span', { class: 'reaction', 'aria-hidden': 'true', 'data-emoji': emoji }, emoji);
  mark.style.left = `${20 + Math.random() * 60}%`;
  tile.append(mark);
  setTimeout(() => mark.remove(), SHOWN);
  const what = t(EMOJI[emoji]);
  announce(person.isSelf ? what : t('room.react.said', { name: nameOf(person), what }));
}
