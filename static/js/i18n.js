/**
 * Texts, numbers and dates in the reader's language.
 *
 * The catalogues are flat JSON, `static/i18n/<language>.json`, with the same keys in each; a page
 * with `<html data-texts="room">` gets only its own (`Static` in rtapp.py). A text may hold `{name}`
 * parameters. A text that counts has a key per plural category (`sent.one`, `sent.other`) and is
 * asked for without it: `t('sent', { count: 3 })`.
 *
 * In HTML: `<h2 data-i18n="live.title"></h2>` sets the text, and
 * `data-i18n-attr="placeholder:send.hint aria-label:send.label"` sets attributes.
 */

import { store, stored } from './storage.js';

/** @typedef {Record<string, string | number>} Params */

const KEY = 'rtapp.language';
const DEFAULT = 'en';

/** Those there are: the server puts them into the page, by the files of `i18n/`. */
export const languages = () => document.documentElement.dataset.languages?.split(' ') ?? [DEFAULT];

let current = DEFAULT;
/** @type {Record<string, string>} */
let catalogue = {};
/** @type {Set<() => void>} */
const listeners = new Set();
/** Intl objects are dear to make and asked for on every message. @type {Map<string, unknown>} */
const formats = new Map();

/** Load the reader's language and put it into the page; call once, before anything asks for a text. */
export async function initI18n() {
  await setLanguage(preferred(), false);
}

/**
 * Change the language of the page, and remember it in this browser.
 * @param {string} language
 * @param {boolean} [remember]
 */
export async function setLanguage(language, remember = true) {
  const loaded = await load(language);
  current = language;
  catalogue = loaded;
  formats.clear();
  if (remember) store(KEY, language);
  document.documentElement.lang = language;
  translate(document);
  document.documentElement.dataset.ready = '';
  for (const listener of listeners) listener();
}

/** The language now shown. */
export const language = () => current;

/**
 * Be told after each change of the language, to render again what isn't in the HTML.
 * @param {() => void} listener
 */
export function onLanguage(listener) {
  listeners.add(listener);
}

/**
 * The text of a key. A missing one is shown as the key itself, so that it's noticed.
 * @param {string} key
 * @param {Params} [params] numbers are written as the language writes them; `count` chooses the plural
 * @returns {string}
 */
export function t(key, params) {
  const text = catalogue[key] ?? plural(key, params?.count);
  if (text === undefined) {
    console.warn(`i18n: no text for "${key}" in "${current}"`);
    return key;
  }
  if (!params) return text;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = params[name];
    if (value === undefined) return whole;
    return typeof value === 'number' ? formatNumber(value) : isolated(value);
  });
}

const LEFTWARD = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

/**
 * Somebody's text as it can stand in a sentence: its letters from right to left turn nothing around
 * them (UAX 9), and its marks of direction are left out.
 * @param {string} text
 */
export function isolated(text) {
  const plain = text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '');
  return LEFTWARD.test(plain) ? `\u2068${plain}\u2069` : plain;
}

/**
 * The beginning of a text, of at most so many UTF-16 units: no character is cut, as people see it.
 * @param {string} text
 * @param {number} most
 */
export function beginning(text, most) {
  if (text.length <= most) return text;
  const near = text.slice(0, most + 64); // a long one isn't looked through
  const end = 'Segmenter' in Intl ? new Intl.Segmenter().segment(near).containing(most)?.index : 0;
  return text.slice(0, end || most).replace(/[\ud800-\udbff]$/, ''); // an older Firefox
}

/** The first character of a text, as people see it. @param {string} text */
export function firstCharacter(text) {
  return 'Segmenter' in Intl ? ([...new Intl.Segmenter().segment(text)][0]?.segment ?? '') : ([...text][0] ?? '');
}

/** A text as it is looked for: without case, marks, or the Turkish dots, which not every keyboard has. @param {string} text */
export const fold = (text) => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase().replaceAll('ı', 'i');

/**
 * @param {string} key
 * @param {string | number | undefined} count
 */
function plural(key, count) {
  if (typeof count !== 'number') return undefined;
  const rules = cached('plural', () => new Intl.PluralRules(current));
  return catalogue[`${key}.${rules.select(count)}`] ?? catalogue[`${key}.other`];
}

/**
 * Put the texts into a part of the page, by its `data-i18n` and `data-i18n-attr`.
 * @param {ParentNode} root
 */
export function translate(root) {
  for (const element of root.querySelectorAll('[data-i18n]')) {
    element.textContent = t(element.getAttribute('data-i18n') ?? '');
  }
  for (const element of root.querySelectorAll('[data-i18n-attr]')) {
    for (const pair of (element.getAttribute('data-i18n-attr') ?? '').split(/\s+/)) {
      const [attribute, key] = pair.split(':');
      element.setAttribute(attribute, t(key));
    }
  }
}

/**
 * @param {number} value
 * @param {Intl.NumberFormatOptions} [options]
 */
export function formatNumber(value, options) {
  const make = () => new Intl.NumberFormat(locale(), options);
  return cached(`number${JSON.stringify(options)}`, make).format(value);
}

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];

/** A size in bytes as people write it. @param {number} bytes */
export function formatBytes(bytes) {
  const step = bytes < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  const options = { style: 'unit', unit: UNITS[step], unitDisplay: step ? 'short' : 'long', maximumFractionDigits: step ? 1 : 0 };
  return formatNumber(bytes / 1000 ** step, /** @type {Intl.NumberFormatOptions} */ (options));
}

/**
 * A date and time; by default a short date with minutes.
 * @param {Date | number | string} value
 * @param {Intl.DateTimeFormatOptions} [options]
 */
export function formatDate(value, options = { dateStyle: 'medium', timeStyle: 'short' }) {
  const make = () => new Intl.DateTimeFormat(locale(), options);
  return cached(`date${JSON.stringify(options)}`, make).format(new Date(value));
}

/**
 * A time of the day with seconds.
 * @param {Date | number | string} value
 */
export function formatTime(value) {
  return formatDate(value, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
}

/**
 * A length of time in words, by its two largest units: `1 minute, 5 seconds`.
 * @param {number} seconds
 * @param {'long' | 'short'} [unitDisplay]
 */
export function formatDuration(seconds, unitDisplay = 'long') {
  const whole = Math.max(0, Math.floor(seconds));
  const all = Object.entries({ day: Math.floor(whole / 86_400), hour: Math.floor(whole / 3600) % 24, minute: Math.floor(whole / 60) % 60, second: whole % 60 });
  const first = all.findIndex(([, value]) => value);
  const told = first < 0 ? all.slice(-1) : all.slice(first, first + 2).filter(([, value]) => value);
  return formatList(told.map(([unit, value]) => formatNumber(value, { style: 'unit', unit, unitDisplay })), { type: 'unit' });
}

/**
 * Several in a row: `Ada, Bob and Cem`.
 * @param {string[]} parts
 * @param {Intl.ListFormatOptions} [options]
 */
export function formatList(parts, options) {
  return cached(`list${JSON.stringify(options)}`, () => new Intl.ListFormat(locale(), options)).format(parts);
}

/** The reader's own variety of the language (`en-GB`) where the browser tells it. */
function locale() {
  return navigator.languages.find((tag) => base(tag) === current) ?? current;
}

/** @param {string} tag */
const base = (tag) => tag.toLowerCase().split('-')[0];

/** The saved choice, else the first of the browser's languages that there is. */
function preferred() {
  const wanted = [stored(KEY) ?? '', ...navigator.languages.map(base)];
  return wanted.find((tag) => languages().includes(tag)) ?? DEFAULT;
}

/**
 * @param {string} language
 * @returns {Promise<Record<string, string>>}
 */
async function load(language) {
  // A page that has to be small names a part, which the server picks out of the whole.
  const { texts } = document.documentElement.dataset;
  const url = new URL(`../i18n/${texts ? `${texts}.` : ''}${language}.json`, import.meta.url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname}: ${response.status}`);
  return response.json();
}

/**
 * @template T
 * @param {string} name
 * @param {() => T} make
 * @returns {T}
 */
function cached(name, make) {
  if (!formats.has(name)) formats.set(name, make());
  return /** @type {T} */ (formats.get(name));
}
