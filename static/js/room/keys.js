/** Keyboard shortcuts. */
import { isComposing } from '../page.js';
import { withPart } from './dom.js';
import { recall } from './memory.js';

/** @typedef {{ key: string, text: string, act: () => void, held?: (down: boolean) => void }} Shortcut */

/** Where letters are typed. */
const TYPING = 'textarea, select, input:not([type="checkbox"], [type="radio"], [type="file"]), [contenteditable="true"]';
/** What the space bar works. */
const PRESSED = `${TYPING}, button, a[href], summary, [role="menuitem"], input, video, audio`;
/** Work with Ctrl or Cmd too, also while one types. @type {Record<string, string>} */
export const WITH_CONTROL = { d: 'm', e: 'v' };

/** All there are. @type {Shortcut[]} */
let all = [];
/** Whether letters alone act. */
export const singles = { on: true };

/**
 * Single letters act only while nothing is typed, and can be switched off (WCAG 2.1.4).
 * @param {Shortcut[]} shortcuts
 * @param {() => boolean} isOn whether there is a call
 */
export function wireKeys(shortcuts, isOn) {
  const byKey = new Map(shortcuts.map((one) => [one.key, one]));
  all = shortcuts;
  singles.on = recall('keys', true);
  /** @type {Shortcut | undefined} */
  let held;
  addEventListener('keydown', (event) => {
    if (!isOn() || event.defaultPrevented || isComposing(event) || event.altKey) return;
    const found = byKey.get(keyOf(event));
    if (!found || document.querySelector('dialog[open]')) return;
    event.preventDefault();
    if (event.repeat) return;
    if (!found.held) return found.act();
    held = found;
    found.held(true);
  });
  const release = () => {
    held?.held?.(false);
    held = undefined;
  };
  addEventListener('keyup', (event) => {
    if (held && keyName(event) === held.key) release();
  });
  addEventListener('blur', release); // its keyup goes to another window
}

/** @param {KeyboardEvent} event */
function keyOf(event) {
  const name = keyName(event);
  const at = /** @type {Element | null} */ (event.target instanceof Element ? event.target : null);
  if (event.ctrlKey || event.metaKey) return event.shiftKey ? '' : (WITH_CONTROL[name] ?? '');
  if (!singles.on || at?.closest(name === ' ' ? PRESSED : TYPING)) return '';
  return name;
}

/** A letter of another script than ours: Cyrillic, Greek, Arabic … */
const FOREIGN = /^(?![\p{Script=Latin}\p{Script=Common}])[\p{L}\p{M}]/u;

/**
 * Letters whatever the case; in Turkish İ and I are others than i. A layout of another script has
 * none of ours: there the key's place counts.
 * @param {Pick<KeyboardEvent, 'key' | 'code'>} event
 */
export function keyName({ key, code }) {
  if (FOREIGN.test(key) && /^Key[A-Z]$/.test(code)) return code[3].toLowerCase();
  return key.length === 1 ? key.toLowerCase() : key;
}

/** The sheet that shows them. */
export const showKeys = () => withPart(import('./keysheet.js'), ({ showSheet }) => showSheet(all));
