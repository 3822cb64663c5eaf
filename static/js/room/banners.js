/** The notices of a call, each of one form. */
import { notice } from '../notices.js';
import { banner, h } from '../page.js';
import { said } from './dom.js';

/**
 * @param {string} kind
 * @param {false | (() => HTMLElement)} render false takes it away
 * @param {string} [state] what it says: as long as that is the same it isn't said again
 */
export const setBanner = (kind, render, state = '') => notice(kind, render || undefined, state);

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
