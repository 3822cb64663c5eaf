/** Of what is made when it is asked for: dialogs, texts of attributes, icons, styles. */
import { t } from '../i18n.js';
import { h } from '../page.js';
import { icon, said } from './dom.js';

/**
 * A dialog of the page, with its title and a button that closes it.
 * @param {string} name its id is `<name>-dialog`
 * @param {string} title its text's key
 * @param {(Node | undefined)[]} content
 * @param {string} [send] key of a button by which what was entered is sent: then it is a form, `<name>-form`
 */
export function makeDialog(name, title, content, send) {
  const heading = said('h2', title, { id: `${name}-title`, tabindex: '-1' });
  const close = said('button', send ? 'room.cancel' : 'notice.close', { type: 'button', 'data-close-dialog': true });
  const actions = h('div', { class: 'actions' }, close, send ? said('button', send, { class: 'primary' }) : undefined);
  const inside = send ? h('form', { id: `${name}-form`, class: 'stack', novalidate: true }) : h('div', { class: 'stack' });
  inside.append(heading, ...content.filter((one) => one !== undefined), actions);
  const dialog = h('dialog', { id: `${name}-dialog`, 'aria-labelledby': `${name}-title` }, inside);
  document.body.append(dialog);
  return dialog;
}

/**
 * Attributes whose texts follow the language.
 * @param {Record<string, string>} keys of the texts, by attribute
 */
export function named(keys) {
  const all = Object.entries(keys);
  const now = Object.fromEntries(all.map(([name, key]) => [name, t(key)]));
  return { ...now, 'data-i18n-attr': all.map((pair) => pair.join(':')).join(' ') };
}

/** @type {Promise<unknown> | undefined} */
let styles;

/** The styles of what is made when it is asked for; without them it is there, only plain. */
export function styled() {
  const link = h('link', { rel: 'stylesheet', href: new URL('../../css/talk.css', import.meta.url).href });
  styles ??= new Promise((resolve) => {
    link.onload = link.onerror = resolve;
    document.head.append(link);
  });
  return styles;
}

/** An icon by the path of its lines, which only that part of the page has. @param {string} d */
export function drawn(d) {
  const svg = icon('');
  const path = document.createElementNS(svg.namespaceURI, 'path');
  path.setAttribute('d', d);
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.replaceChildren(path);
  return svg;
}
