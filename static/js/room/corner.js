/** One's own small picture is taken to another corner: dragged, or by the arrow keys. */
import { t } from '../i18n.js';
import { announce } from '../page.js';
import { remember } from './memory.js';

/** @typedef {import('./grid.js').Size} Size */
/** @typedef {import('./seats.js').Seats} Seats */

const MEANT = 6; // px: less is a click

/** How a corner is called. @type {Record<string, string>} */
const NAMES = {
  'top left': 'room.corner.topLeft',
  'top right': 'room.corner.topRight',
  'bottom left': 'room.corner.bottomLeft',
  'bottom right': 'room.corner.bottomRight',
};

/** What one does with it. @param {Event} event @param {HTMLElement} element @param {Seats} seats */
export function take(event, element, seats) {
  if (event instanceof KeyboardEvent && event.target === element) press(event, seats);
  else if (event instanceof PointerEvent && event.isPrimary && event.button === 0) drag(event, element, seats);
}

/** @param {KeyboardEvent} event @param {Seats} seats */
function press({ key }, seats) {
  const corner = cornerBy(seats.corner, key);
  if (corner === seats.corner) return;
  bringTo(seats, corner);
  announce(t(NAMES[corner]));
}

/** @param {Seats} seats @param {string} corner */
function bringTo(seats, corner) {
  seats.corner = corner;
  remember('corner', corner);
  seats.arrange();
}

/** It follows the pointer, and goes to the nearest corner. @param {PointerEvent} begun @param {HTMLElement} element @param {Seats} seats */
function drag(begun, element, seats) {
  if (!element.hasPointerCapture(begun.pointerId)) return; // let go meanwhile, or on a button
  const over = new AbortController();
  const { signal } = over;
  const area = /** @type {HTMLElement} */ (element.parentElement).getBoundingClientRect();
  let [x, y] = [0, 0];
  /** @param {(event: PointerEvent) => void} act @returns {(event: PointerEvent) => void} */
  const ours = (act) => (event) => event.pointerId === begun.pointerId && act(event);
  const end = () => {
    over.abort();
    element.classList.remove('dragged');
    element.style.translate = '';
  };
  const follow = ours((event) => {
    [x, y] = [event.clientX - begun.clientX, event.clientY - begun.clientY];
    if (Math.hypot(x, y) < MEANT && !element.classList.contains('dragged')) return;
    element.classList.add('dragged');
    element.style.translate = `${x}px ${y}px`;
  });
  const drop = ours(() => {
    const isMeant = element.classList.contains('dragged');
    const { left, top, width, height } = element.getBoundingClientRect();
    end();
    if (isMeant) bringTo(seats, cornerAt({ left: left + width / 2 - area.left, top: top + height / 2 - area.top }, area));
  });
  addEventListener('pointermove', follow, { signal });
  addEventListener('pointerup', drop, { signal });
  addEventListener('pointercancel', ours(end), { signal });
}

/** The corner that a point is nearest to. @param {{ left: number, top: number }} point @param {Size} area */
export const cornerAt = ({ left, top }, { width, height }) => `${top * 2 < height ? 'top' : 'bottom'} ${left * 2 < width ? 'left' : 'right'}`;

/** Where an arrow key brings what stands in a corner; another key nowhere. @param {string} corner @param {string} key */
export function cornerBy(corner, key) {
  const to = key.replace('ArrowUp', 'top').replace('ArrowDown', 'bottom').replace('Arrow', '').toLowerCase();
  const [row, column] = corner.split(' ');
  if (to === 'top' || to === 'bottom') return `${to} ${column}`;
  return to === 'left' || to === 'right' ? `${row} ${to}` : corner;
}
