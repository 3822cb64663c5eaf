/** Small parts of the room page: icons, buttons that switch, dialogs, menus, passing notes. */
import { onLanguage, t } from '../i18n.js';
import { announce, byId, h } from '../page.js';

export { confirmed as ask } from '../dialog.js';
export { formatBytes as size } from '../i18n.js';

const SVG = 'http://www.w3.org/2000/svg';

/** @param {string} name of a `<symbol>` of the page, without its `i-` */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  const use = document.createElementNS(SVG, 'use');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/**
 * An element with a text of the catalogue, which follows the language while it is in the page.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} key
 * @param {Record<string, string | boolean | undefined>} [attributes]
 */
export const said = (tag, key, attributes = {}) => h(tag, { ...attributes, 'data-i18n': key }, t(key));

/** @typedef {{ icon: string, label: string, hint?: string, text?: string, pressed?: boolean, count?: number }} Look */

/**
 * Show a round button's icon, name and state. `label` names it, whatever its state; `hint`, its
 * tooltip, says what a click does.
 * @param {HTMLElement} button
 * @param {Look} look
 */
export function dress(button, look) {
  const { icon: name, label, hint = label, text, pressed, count = 0 } = look;
  if (button.dataset.look === JSON.stringify(look)) return;
  button.dataset.look = JSON.stringify(look);
  button.setAttribute('aria-label', label);
  button.title = hint;
  if (pressed !== undefined) button.setAttribute('aria-pressed', String(pressed));
  const word = text ? h('span', { class: 'word', 'aria-hidden': 'true' }, text) : undefined;
  // Not as text, which would have to stand in the name.
  if (count) button.dataset.count = String(count);
  else delete button.dataset.count;
  button.replaceChildren(...[icon(name), word].filter((part) => part !== undefined));
}

/**
 * Act by a part that few calls need, which is loaded when it is asked for; if that can't be, say so:
 * another try asks for it again.
 * @template T
 * @param {Promise<T>} part by `import()`
 * @param {(part: T) => void} act
 */
export const withPart = (part, act) => void part.then(act, () => toast(t('error.unreachable')));

/** What to say of a device that doesn't work, in its place at once: few have one. @param {(faults: typeof import('./faults.js')) => HTMLElement} made */
export function inFaults(made) {
  const place = h('div');
  withPart(import('./faults.js'), (faults) => place.append(made(faults)));
  return place;
}

/** @param {Parameters<typeof import('./faults.js').faultBanner>} fault */
export function faultBanner(...fault) {
  const place = inFaults((faults) => faults.faultBanner(...fault));
  [, place.dataset.fault] = fault;
  return place;
}

/** Open a dialog, close it by its buttons and by a click beside it. @param {HTMLDialogElement} dialog */
export function openDialog(dialog) {
  if (!dialog.dataset.wired) {
    dialog.dataset.wired = 'yes';
    dialog.addEventListener('click', ({ target }) => {
      const isButton = target instanceof Element && target.closest('[data-close-dialog]');
      if (target === dialog || isButton) dialog.close();
    });
  }
  if (!dialog.open) dialog.showModal();
}

/** @typedef {{ key: string, icon?: string, text: string, act: () => void, danger?: boolean, pressed?: boolean, group?: string }} Item `group`: of which one is chosen, by its name */

/** The menu that is open, of which there is one at most. @type {{ menu: HTMLElement, button: HTMLElement, close: () => void } | undefined} */
let opened;
document.addEventListener('pointerdown', ({ target }) => {
  const isInside = target instanceof Node && (opened?.menu.contains(target) || opened?.button.contains(target));
  if (!isInside) opened?.close();
});
onLanguage(() => opened?.close());

/**
 * A menu button (ARIA authoring practices): arrows move, Escape and Tab close, the focus comes back.
 * @param {HTMLElement} button
 * @param {HTMLElement} menu
 * @param {() => Item[]} items asked at each opening
 */
export function wireMenu(button, menu, items) {
  const entries = () => /** @type {HTMLElement[]} */ ([...menu.querySelectorAll('button')]);
  /** @param {boolean} [back] whether the focus comes back to the button */
  const close = (back = false) => {
    opened = undefined;
    menu.hidden = true;
    button.setAttribute('aria-expanded', 'false');
    if (back) button.focus();
  };
  const open = () => {
    menu.replaceChildren(...grouped(items(), (item) => menuItem(item, () => close(true))));
    opened?.close();
    opened = { menu, button, close };
    menu.hidden = false;
    button.setAttribute('aria-expanded', 'true');
    entries()[0]?.focus();
  };
  button.addEventListener('click', () => (menu.hidden ? open() : close(true)));
  menu.addEventListener('keydown', (event) => {
    const all = entries();
    const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 + all.length, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === 'Escape') close(true);
    else if (event.key === 'Tab') close();
    else if (to !== undefined) all[to % all.length].focus();
    else return;
    event.stopPropagation();
    if (event.key !== 'Tab') event.preventDefault();
  });
}

/** @param {Item[]} items @param {(item: Item) => HTMLElement} made */
function grouped(items, made) {
  /** @type {Map<string | undefined, HTMLElement>} */
  const groups = new Map();
  return items.flatMap((item) => {
    const { group } = item;
    if (!group) return [made(item)];
    const known = groups.get(group);
    const box = known ?? h('div', { role: 'group', 'aria-label': group }, h('span', { class: 'hint', 'aria-hidden': 'true' }, group));
    groups.set(group, box);
    box.append(made(item));
    return known ? [] : [box];
  });
}

/** @param {Item} item @param {() => void} close */
function menuItem({ key, icon: name, text, act, danger, pressed, group }, close) {
  const checked = pressed === undefined ? undefined : String(pressed);
  const button = h(
    'button',
    {
      type: 'button',
      role: pressed === undefined ? 'menuitem' : group ? 'menuitemradio' : 'menuitemcheckbox',
      'aria-checked': checked,
      tabindex: '-1',
      class: danger ? 'danger' : undefined,
      'data-item': key,
    },
    name ? icon(name) : undefined,
    h('span', {}, text),
  );
  button.addEventListener('click', () => {
    close();
    act();
  });
  return button;
}

const TOAST = 5000; // ms

/**
 * A note that passes, also said to a screen reader.
 * @param {string} text
 */
export function toast(text) {
  const note = h('p', { class: 'toast' }, h('span', {}, text));
  byId('captions').append(note);
  announce(text);
  setTimeout(() => note.remove(), TOAST);
}

/** Act by what few calls need of the pictures. @param {(parts: typeof import('./later.js')) => void} act */
export const bring = (act) => withPart(import('./later.js'), act);
