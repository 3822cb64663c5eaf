/** What every page has: texts, links, the language switch, announcements, and small helpers for the DOM. */
import { ApiError, ROOT } from './api.js';
import { initI18n, language, languages, onLanguage, setLanguage, t } from './i18n.js';
import { store } from './storage.js';

const THEME = 'rtapp.theme';

/** Load the texts, wire the header, show the page. */
export async function startPage() {
  for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (
    document.querySelectorAll('a[data-href]')
  )) {
    link.href = new URL(link.dataset.href ?? '', ROOT).href;
  }
  for (const element of document.querySelectorAll('select[data-language-switch]')) {
    wireLanguageSwitch(/** @type {HTMLSelectElement} */ (element));
  }
  wireThemeSwitches();
  document.body.append(announcer);
  while (!(await initI18n().then(() => true, waits)));
  sorry.remove();
}

/** The one text that can't come with the others. */
const sorry = h('p', { class: 'banner warn sorry', role: 'alert' }, 'This page can’t reach its server; it tries again. ', h('span', { lang: 'tr' }, 'Sayfa sunucusuna ulaşamıyor, yeniden deniyor.'));
let pause = 500; // ms

async function waits() {
  document.body.prepend(sorry);
  pause = Math.min(pause * 2, 16_000);
  await new Promise((resolve) => setTimeout(resolve, pause));
}

/** @param {HTMLSelectElement} select */
function wireLanguageSwitch(select) {
  for (const tag of languages()) {
    select.append(h('option', { value: tag, lang: tag }, new Intl.DisplayNames(tag, { type: 'language' }).of(tag)));
  }
  onLanguage(() => {
    select.value = language();
  });
  select.addEventListener('change', () => {
    setLanguage(select.value).catch(() => {
      select.value = language();
      announce(t('error.unreachable'));
    });
  });
}

function wireThemeSwitches() {
  const { dataset } = document.documentElement;
  const switches = /** @type {NodeListOf<HTMLSelectElement>} */ (document.querySelectorAll('[data-theme-switch]'));
  /** @param {string | null} theme `light`, `dark`, or anything else for automatic */
  const show = (theme) => {
    if (theme === 'light' || theme === 'dark') dataset.theme = theme;
    else delete dataset.theme;
    for (const one of switches) one.value = dataset.theme ?? 'auto';
  };
  for (const one of switches) {
    one.addEventListener('change', () => {
      show(one.value);
      store(THEME, one.value);
    });
  }
  addEventListener('storage', ({ key, newValue }) => key === THEME && show(newValue));
  show(dataset.theme ?? null);
}

const announcer = h('p', { class: 'visually-hidden', role: 'status' });

/**
 * Say something to a screen reader that the eye sees elsewhere.
 * @param {string} text
 */
export function announce(text) {
  announcer.textContent = text;
}

/**
 * Make an element: `h('p', { class: 'hint' }, 'text')`. Strings become text, never HTML.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | boolean | undefined>} [attributes] `true` sets an empty one; false or undefined none
 * @param {...(Node | string | undefined)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, '');
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** What each element was drawn from. @type {WeakMap<Element, string>} */
const drawn = new WeakMap();

/**
 * Fill an element again if what it shows has changed, or the language: else its children stay, and with
 * them the focus.
 * @param {Element} element
 * @param {unknown} from
 * @param {() => (Node | undefined)[]} draw
 */
export function redraw(element, from, draw) {
  const key = JSON.stringify([language(), from]);
  if (drawn.get(element) === key) return;
  drawn.set(element, key);
  element.replaceChildren(...draw().filter((child) => child !== undefined));
}

/**
 * A button that does something.
 * @param {string} text
 * @param {() => void} act
 * @param {string} [kind] its classes
 */
export function button(text, act, kind = 'small') {
  const element = h('button', { type: 'button', class: kind }, text);
  element.addEventListener('click', act);
  return element;
}

/**
 * An element that the page's HTML is known to have.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`#${id} is missing in the page`);
  return /** @type {T} */ (element);
}

/**
 * Whether a key belongs to a word that is being composed (Japanese, Chinese, Korean, an accent). The
 * one that ends it comes after the word in Safari, marked by its code alone: 229, as UI Events has it.
 * @param {KeyboardEvent} event
 */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/**
 * Give the reader a file. What is given may take a while to be stored.
 * @param {Blob} blob
 * @param {string} name
 */
export function saveFile(blob, name) {
  const link = h('a', { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Statuses that have a text of their own; else the server's title is shown. @type {Record<number, string>} */
const ERRORS = {
  0: 'error.unreachable',
  401: 'error.signedOut',
  403: 'error.forbidden',
  413: 'error.tooLarge',
  422: 'error.invalid',
  429: 'error.tooMany',
  500: 'error.server',
  503: 'error.busy',
};

/**
 * One sentence on what went wrong, in the reader's language.
 * @param {unknown} error
 */
export function errorTitle(error) {
  if (!(error instanceof ApiError)) return t('error.unexpected');
  return error.status in ERRORS ? t(ERRORS[error.status]) : error.title;
}

/**
 * A banner: a title, and what there is to say below it, a text as a paragraph. A trouble is said aloud at once.
 * @param {'info' | 'ok' | 'warn' | 'error'} kind
 * @param {string} title
 * @param {...(Node | string | undefined)} body
 */
export function banner(kind, title, ...body) {
  const role = kind === 'warn' || kind === 'error' ? 'alert' : 'status';
  const parts = body.map((part) => (typeof part === 'string' ? h('p', { class: 'body' }, part) : part));
  return h('div', { class: `banner ${kind}`, role }, h('p', { class: 'title' }, title), ...parts);
}

/**
 * A banner with what went wrong; the server's own words (English) stand below ours.
 * @param {unknown} error
 * @param {...Node} more
 */
export function errorBanner(error, ...more) {
  const words = error instanceof ApiError && error.status ? error.detail || error.title : '';
  const fields = error instanceof ApiError ? error.errors : [];
  return banner(
    'error',
    errorTitle(error),
    words ? serverWords(words) : undefined,
    fields.length ? h('ul', { class: 'body', lang: 'en' }, ...fields.map(fieldItem)) : undefined,
    ...more,
  );
}

/**
 * What the server said itself, in English.
 * @param {string} words
 */
export const serverWords = (words) => h('p', { class: 'body', lang: 'en' }, words);

/** @param {import('./api.js').FieldError} error */
const fieldItem = ({ field, message }) => h('li', {}, h('code', {}, field), ` ${message}`);

/**
 * Copy a text, say so on the button for a moment, and aloud.
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} source
 */
export async function copyFrom(button, source) {
  const done = (await toClipboard(source)) ? t('copy.done') : t('copy.failed');
  button.textContent = done;
  announce(done);
  setTimeout(() => {
    button.textContent = t(button.dataset.i18n ?? 'copy.button');
  }, 2000);
}

/**
 * The clipboard's own interface is missing on plain HTTP; the old command does it there, and leaves
 * the text selected for a copy by hand where it doesn't.
 * @param {HTMLElement} source
 */
async function toClipboard(source) {
  try {
    await navigator.clipboard.writeText(source.textContent ?? '');
    return true;
  } catch {
    getSelection()?.selectAllChildren(source);
    return document.execCommand('copy');
  }
}
