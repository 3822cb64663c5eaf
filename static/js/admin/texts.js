/** Texts that one section needs, by the server's names or words for them: loaded with it, in the reader's language. */
import { language, onLanguage } from '../i18n.js';
import { signal } from './ui.js';

/** @typedef {Record<string, string>} Texts */

/**
 * @param {string} name of the files, `i18n/<name>.<language>.json`
 * @param {string} [own] the language in which the server says it itself: there is no file
 */
function texts(name, own) {
  /** @type {import('./ui.js').Signal<Texts>} */
  const found = signal({});
  let wanted = false;

  /** What can't be loaded is said in the server's words. */
  async function load() {
    wanted = true;
    const url = new URL(`../../i18n/${name}.${language()}.json`, import.meta.url);
    const asked = language() === own ? undefined : fetch(url).then((response) => (response.ok ? response.json() : undefined));
    found.value = (await asked?.catch(() => undefined)) ?? {};
  }

  onLanguage(() => wanted && void load());
  return { found, load };
}

/** What settings are called. */
export const labels = texts('labels');
/** What settings do. */
export const descriptions = texts('settings', 'en');
/** What the event log says. */
export const entries = texts('log', 'en');

/**
 * An entry's words in the reader's language, and what remains in the server's. `{}` stands for what is
 * different in each.
 * @param {string} message
 * @param {Texts} all
 * @returns {{ own?: string, rest?: string }}
 */
export function translated(message, all) {
  if (all[message]) return { own: all[message] };
  for (const [words, own] of Object.entries(all)) {
    const parts = words.includes('{}') && split(message, words.split('{}'));
    if (!parts) continue;
    // A long tail is the server's own explanation.
    const [last, rest] = own.endsWith(': {}') ? [own.slice(0, -2), parts.pop()] : [own, undefined];
    return { own: last.replace(/\{\}/g, () => parts.shift() ?? ''), rest };
  }
  const at = message.indexOf(': ');
  const own = at > 0 ? all[message.slice(0, at)] : undefined;
  return own ? { own: `${own}: `, rest: message.slice(at + 2) } : { rest: message };
}

/** What stands in a text between the parts of another; none where it is another text. @param {string} text @param {string[]} parts */
function split(text, [first, ...others]) {
  if (!text.startsWith(first)) return undefined;
  let from = first.length;
  const found = [];
  for (const [number, part] of others.entries()) {
    const isLast = number === others.length - 1;
    const at = isLast ? (part === '' ? text.length : text.endsWith(part) ? text.length - part.length : -1) : text.indexOf(part, from);
    if (at < from) return undefined;
    found.push(text.slice(from, at));
    from = at + part.length;
  }
  return found;
}
