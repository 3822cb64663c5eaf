/** The banners above the pictures, one of each kind: what doesn't work now, and what to do. */
import { onLanguage } from '../i18n.js';
import { banner, byId, h } from '../page.js';
import { said } from './dom.js';

/** @typedef {{ render: () => HTMLElement, state: string }} Shown */

/** @type {Map<string, Shown>} */
const shown = new Map();

/**
 * @param {string} code of the kind
 * @param {false | (() => HTMLElement)} render false takes it away
 * @param {string} [state] what it says: as long as that is the same it isn't said again
 */
export function setBanner(code, render, state = '') {
  const old = shown.get(code);
  if (render ? old?.state === state : !old) return;
  if (render) shown.set(code, { render, state });
  else shown.delete(code);
  const place = byId('banners');
  const element = [...place.children].find((one) => /** @type {HTMLElement} */ (one).dataset.notice === code);
  const next = render ? made(code, render) : undefined;
  if (element && next) element.replaceWith(next);
  else if (next) place.append(next);
  else element?.remove();
}

/** @param {string} code @param {() => HTMLElement} render */
function made(code, render) {
  const element = render();
  element.dataset.notice = code;
  return element;
}

export const clearBanners = () => [...shown.keys()].forEach((code) => setBanner(code, false));

onLanguage(() => byId('banners').replaceChildren(...[...shown].map(([code, { render }]) => made(code, render))));

/**
 * A banner with a button; its first sentence stands out.
 * @param {'info' | 'warn' | 'error' | 'ok'} kind
 * @param {string} text
 * @param {string} [key] the button's text
 * @param {() => void} [act]
 */
export function line(kind, text, key, act) {
  const button = key ? said('button', key, { type: 'button', class: 'small' }) : undefined;
  if (button && act) button.addEventListener('click', act);
  const [title, ...rest] = text.split(/(?<=\.) /);
  const more = rest.length ? h('p', { class: 'body' }, rest.join(' ')) : undefined;
  return banner(kind, more ? title.slice(0, -1) : title, more, button && h('div', { class: 'row' }, button));
}
