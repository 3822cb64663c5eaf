/**
 * Words that two people compare, to know that nobody sits between them: both pages make them of the
 * two certificates that the connection is encrypted with (DTLS, RFC 8827). A server in the middle has
 * to show each side another certificate than the other's, and so makes other words.
 *
 * Twelve of 64 are 72 bits. Neither side commits itself beforehand, so whoever sits in the middle may
 * make certificates for both until the words agree: by the birthday bound 2^37 of them, each with half
 * a million rounds of a slow hash (2^20 blocks of SHA-256): 2^57 in all, a hundred of today's graphics
 * cards for a day, while the call is being set up; nothing of it can be prepared, as browsers make a
 * new certificate for each connection. 48 bits without the slow hash would be minutes of one core.
 */
import { t } from '../i18n.js';
import { h } from '../page.js';
import { openDialog, said } from './dom.js';

/** By their index, the words of the catalogue name them. */
export const PICTURES = [
  ...['🐶', '🐱', '🦁', '🐴', '🐮', '🐷', '🐰', '🐻', '🐵', '🐔', '🐧', '🦉', '🐸', '🐢', '🐍', '🐟'],
  ...['🐙', '🦋', '🐝', '🐌', '🌻', '🌲', '🌵', '🍄', '🍌', '🍎', '🍓', '🍇', '🍋', '🍅', '🥕', '🌽'],
  ...['🍞', '🧀', '🥚', '🍕', '🎂', '⚽', '🚲', '🚗', '🚌', '🚂', '✈️', '⛵', '🚀', '🎈', '🏠', '⛺'],
  ...['🔑', '🔔', '📖', '✏️', '✂️', '🔨', '☂️', '👓', '🎩', '🎸', '☎️', '🌙', '⭐', '🌈', '❤️', '🤖'],
];
const COUNT = 12;
const BITS = 6; // of each
const ROUNDS = 500_000;
const SALT = 'rtapp: the words of a connection';

/**
 * The certificate that a description names; undefined where it names several, of which the other side
 * could use any.
 * @param {string | undefined} sdp
 */
export function certificateOf(sdp) {
  const found = new Set([...(sdp ?? '').matchAll(/^a=fingerprint:(\S+) +(\S+)/gm)].map(([, hash, value]) => `${hash.toLowerCase()} ${value.toUpperCase()}`));
  return found.size === 1 ? [...found][0] : undefined;
}

/** @param {(string | undefined)[]} descriptions of both sides, in either order @returns {Promise<number[] | undefined>} indices */
export async function wordsOf(descriptions) {
  const certificates = descriptions.map(certificateOf);
  if (certificates.includes(undefined)) return undefined;
  const bytes = (/** @type {string} */ text) => new TextEncoder().encode(text);
  const key = await crypto.subtle.importKey('raw', bytes(certificates.sort().join('\n')), 'PBKDF2', false, ['deriveBits']);
  const slow = { name: 'PBKDF2', hash: 'SHA-256', salt: bytes(SALT), iterations: ROUNDS };
  const made = await crypto.subtle.deriveBits(slow, key, COUNT * BITS);
  const all = [...new Uint8Array(made)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return Array.from({ length: COUNT }, (_, at) => Number.parseInt(all.slice(at * BITS, (at + 1) * BITS), 2));
}

/** @param {(string | undefined)[]} descriptions @param {string} name the other's */
export async function openVerify(descriptions, name) {
  const close = said('button', 'notice.close', { type: 'button', 'data-close-dialog': true });
  const body = h('div', { class: 'stack', 'aria-live': 'polite' }, said('p', 'room.verify.making', { class: 'loading' }));
  const title = h('h2', { id: 'verify-title', tabindex: '-1' }, t('room.verify.title', { name }));
  const dialog = h('dialog', { 'aria-labelledby': 'verify-title' }, h('div', { class: 'stack' }, title, body, h('div', { class: 'actions' }, close)));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  openDialog(dialog);
  body.replaceChildren(...(await shown(descriptions, name)));
}

/** @param {(string | undefined)[]} descriptions @param {string} name */
async function shown(descriptions, name) {
  const text = (/** @type {string} */ key) => h('p', {}, t(key, { name }));
  if (!crypto.subtle) return [text('room.verify.insecure')];
  if (descriptions.includes(undefined)) return [text('room.verify.notYet')];
  const words = await wordsOf(descriptions);
  if (!words) return [text('room.verify.several')];
  const names = t('room.verify.words').split(',');
  const items = words.map((word) => h('li', {}, h('span', { class: 'picture', 'aria-hidden': 'true' }, PICTURES[word]), h('span', {}, names[word])));
  return [text('room.verify.how'), h('ol', { class: 'plain words' }, ...items), h('p', { class: 'hint' }, t('room.verify.else', { name }))];
}
