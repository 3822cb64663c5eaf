/** The pages of the pictures, where they are too many for one: by buttons, and by a finger that wipes. */
import { t } from '../i18n.js';
import { announce, h } from '../page.js';
import { BAR, paged } from './pages.js';

/** @typedef {import('./grid.js').Size} Size */

const WIPED = 48; // px

export class Pager {
  /** @param {HTMLElement} seats @param {() => void} onTurn */
  constructor(seats, onTurn) {
    this._seats = seats;
    this._onTurn = onTurn;
    this._page = 0;
    this._pages = 1;
    this._at = h('span', { 'aria-hidden': 'true' });
    this._back = button('room.pages.back', '‹', () => this.turn(-1));
    this._next = button('room.pages.next', '›', () => this.turn(1));
    this._element = h('div', { class: 'pager', role: 'group', ...named('room.pages.title') }, this._back, this._at, this._next);
    seats.after(this._element);
    this._wire();
  }

  _wire() {
    /** @type {PointerEvent | undefined} */
    let begun;
    this._seats.addEventListener('pointerdown', (event) => {
      begun = event.pointerType === 'touch' && event.isPrimary ? event : undefined;
    });
    this._seats.addEventListener('pointerup', ({ clientX, clientY }) => {
      if (!begun) return;
      const [x, y] = [clientX - begun.clientX, clientY - begun.clientY];
      begun = undefined;
      if (Math.abs(x) > WIPED && Math.abs(x) > 2 * Math.abs(y)) this.turn(x < 0 ? 1 : -1);
    });
  }

  /** To another page, where there is one. @param {number} by */
  turn(by) {
    const page = Math.max(0, Math.min(this._pages - 1, this._page + by));
    if (page === this._page) return;
    this._page = page;
    this._onTurn();
    announce(t('room.pages.at', { page: page + 1, pages: this._pages }));
  }

  /**
   * Whom this page shows, and what the buttons leave of the room.
   * @template T
   * @param {number} large how many, on each page
   * @param {T[]} others
   * @param {number} own how many, on each page too
   * @param {Size} area
   */
  show(large, others, own, area) {
    const { pages, count } = paged(large, others.length + own, own, area);
    const page = Math.min(this._page, pages - 1);
    Object.assign(this, { _page: page, _pages: pages });
    this._element.hidden = pages < 2;
    this._seats.classList.toggle('paged', pages > 1);
    if (pages < 2) return { others, area };
    this._at.textContent = `${page + 1} / ${pages}`;
    this._back.setAttribute('aria-disabled', String(page === 0));
    this._next.setAttribute('aria-disabled', String(page === pages - 1));
    return { others: others.slice(page * count, (page + 1) * count), area: { ...area, height: area.height - BAR } };
  }
}

/** A name that follows the language. @param {string} key */
const named = (key) => ({ 'aria-label': t(key), 'data-i18n-attr': `aria-label:${key}` });

/** @param {string} key @param {string} sign @param {() => void} act */
function button(key, sign, act) {
  const made = h('button', { type: 'button', class: 'round', ...named(key) }, sign);
  made.addEventListener('click', act);
  return made;
}
