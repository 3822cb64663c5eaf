/** Texts, numbers and dates in the reader's language (`static/js/i18n.js`). */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { put, Storage } from './browser.mjs';
import {
  beginning,
  firstCharacter,
  formatDate,
  formatDuration,
  formatNumber,
  formatTime,
  initI18n,
  isolated,
  language,
  onLanguage,
  setLanguage,
  t,
  translate,
} from '../../static/js/i18n.js';

/** What the server has instead of the pages' own catalogues. */
const CATALOGUES = {
  en: {
    plain: 'Send',
    hello: 'Hello {name}, {name}! {count} of {all}',
    'sent.one': '{count} message',
    'sent.other': '{count} messages',
    same: '{count} bytes',
  },
  tr: {
    plain: 'Gönder',
    hello: 'Merhaba {name}, {name}! {all} içinden {count}',
    'sent.other': '{count} ileti',
    same: '{count} bayt',
  },
};

let asked = [];
let warnings = [];
console.warn = (text) => warnings.push(text);

/** A page as it was before anything was chosen, by a reader of these languages. */
function reader(...languages) {
  put('navigator', { languages });
  put('localStorage', new Storage());
}

beforeEach(async () => {
  put('fetch', async (url) => {
    asked.push(url.pathname.split('/').at(-1));
    const [tag] = url.pathname.match(/\w+(?=\.json$)/);
    return CATALOGUES[tag] ? Response.json(CATALOGUES[tag]) : new Response('', { status: 404 });
  });
  reader('en-GB');
  await setLanguage('en', false);
  [asked, warnings] = [[], []];
});

/** Some versions of the locale data write a narrow space where others write a plain one. */
const plain = (text) => text.replace(/\s/gu, ' ');

test('a text is that of its key', () => {
  assert.equal(t('plain'), 'Send');
  assert.equal(t('hello'), CATALOGUES.en.hello, 'without parameters as it stands');
});

test('parameters are put in, numbers as the language writes them', async () => {
  const params = { name: '<b>', count: 1234.5, all: 10_000 };
  assert.equal(t('hello', params), 'Hello <b>, <b>! 1,234.5 of 10,000');
  await setLanguage('tr', false);
  assert.equal(t('hello', params), 'Merhaba <b>, <b>! 10.000 içinden 1.234,5');
});

test('a parameter that is not given stays, and one that looks like another is not replaced again', () => {
  assert.equal(t('hello', { count: 0 }), 'Hello {name}, {name}! 0 of {all}');
  assert.equal(t('hello', { name: '{all}', all: '{name}', count: 1 }), 'Hello {all}, {all}! 1 of {name}');
});

test('a number chooses the plural of its language', async () => {
  const said = () => [0, 1, 2, 1.5, 1000].map((count) => t('sent', { count }));
  assert.deepEqual(said(), ['0 messages', '1 message', '2 messages', '1.5 messages', '1,000 messages']);
  await setLanguage('tr', false);
  assert.deepEqual(said(), ['0 ileti', '1 ileti', '2 ileti', '1,5 ileti', '1.000 ileti']);
  assert.deepEqual(warnings, [], 'Turkish has no other form to be missed');
});

test('a text without plurals may have a count', () => {
  assert.equal(t('same', { count: 1 }), '1 bytes');
});

test('a missing text is shown as its key, and warned of', () => {
  assert.equal(t('no.such'), 'no.such');
  assert.equal(t('sent'), 'sent', 'a plural without a number');
  assert.equal(t('sent', { count: '2' }), 'sent', 'nor with a text');
  assert.deepEqual(
    warnings,
    ['no.such', 'sent', 'sent'].map((key) => `i18n: no text for "${key}" in "en"`),
  );
});

test('numbers are written as the language does, also after another was chosen', async () => {
  const said = () => [formatNumber(1234567.891), formatNumber(0.256, { style: 'percent', maximumFractionDigits: 1 })];
  assert.deepEqual(said(), ['1,234,567.891', '25.6%']);
  await setLanguage('tr', false);
  assert.deepEqual(said(), ['1.234.567,891', '%25,6']);
  await setLanguage('en', false);
  assert.deepEqual(said(), ['1,234,567.891', '25.6%']);
});

test("the reader's own variety of the language counts", async () => {
  const date = new Date(2026, 4, 1, 15, 4, 5);
  assert.match(plain(formatDate(date)), /^1 May 2026,? (at )?15:04$/);
  reader('de-DE', 'en-US', 'en-GB');
  await setLanguage('en', false);
  assert.match(plain(formatDate(date)), /^May 1, 2026, 3:04 PM$/);
});

test('dates are taken as a moment, a number or a text, and written in the language', async () => {
  const date = new Date(2026, 4, 1, 15, 4, 5);
  await setLanguage('tr', false);
  assert.match(formatDate(date), /^1 May 2026 15:04$/);
  assert.equal(formatDate(date, { month: 'long' }), 'Mayıs');
  for (const value of [date, Number(date), date.toISOString()]) assert.equal(formatTime(value), '15:04:05');
  assert.equal(formatTime(new Date(2026, 4, 1, 0, 0, 0)), '00:00:00', 'midnight is no 24');
});

test('a length of time is told in its two largest units', async () => {
  const said = (...all) => all.map((seconds) => formatDuration(seconds));
  assert.deepEqual(said(-5, 0, 1, 59.9), ['0 seconds', '0 seconds', '1 second', '59 seconds']);
  assert.deepEqual(said(60, 61, 125, 3600), ['1 minute', '1 minute, 1 second', '2 minutes, 5 seconds', '1 hour']);
  assert.deepEqual(said(86_399, 86_400, 100 * 86_400 + 3_600), ['23 hours, 59 minutes', '1 day', '100 days, 1 hour']);
  await setLanguage('tr', false);
  assert.deepEqual(said(0, 60, 124), ['0 saniye', '1 dakika', '2 dakika 4 saniye']);
});

test('the first language of the browser that there is counts', async () => {
  for (const [languages, wanted] of [
    [['tr-TR', 'en-GB'], 'tr'],
    [['de-DE', 'TR'], 'tr'],
    [['de', 'fr-CA'], 'en'],
    [['constructor'], 'en'],
    [[], 'en'],
  ]) {
    reader(...languages);
    await initI18n();
    assert.equal(language(), wanted, languages.join());
    assert.equal(localStorage.getItem('rtapp.language'), null, 'it is not chosen');
  }
});

test('a choice is remembered, and counts before what the browser wants', async () => {
  reader('en-GB');
  await setLanguage('tr');
  await initI18n();
  assert.equal(language(), 'tr');
  localStorage.setItem('rtapp.language', 'xx');
  await initI18n();
  assert.equal(language(), 'en', 'one that there is no longer');
});

test('where storage is forbidden a choice lasts as long as the page', async () => {
  localStorage.forbid = true;
  await setLanguage('tr');
  assert.equal(t('plain'), 'Gönder');
  await initI18n();
  assert.equal(language(), 'tr');
  localStorage.forbid = false;
  await setLanguage('en');
  assert.equal(language(), 'en');
});

test('the languages are those that the server has put into the page', async () => {
  reader('de-DE');
  document.documentElement.dataset.languages = 'de en tr';
  await assert.rejects(initI18n(), /de\.json/); // there is none to be found yet
  document.documentElement.dataset.languages = 'en tr';
  await initI18n();
  assert.equal(language(), 'en');
});

test('a language that can not be loaded leaves the one before', async () => {
  await assert.rejects(setLanguage('xx'), /xx\.json: 404/);
  assert.deepEqual([language(), t('plain')], ['en', 'Send']);
  assert.equal(localStorage.getItem('rtapp.language'), null);
});

test('whoever shows a text is told of another language, once it is there', async () => {
  const seen = [];
  onLanguage(() => seen.push([language(), t('plain'), document.documentElement.lang]));
  await setLanguage('tr');
  assert.deepEqual(seen, [['tr', 'Gönder', 'tr']]);
});

test('a page that has to be small gets its own texts only', async () => {
  document.documentElement.dataset.texts = 'room';
  await setLanguage('tr', false);
  delete document.documentElement.dataset.texts;
  await setLanguage('tr', false);
  assert.deepEqual(asked, ['room.tr.json', 'tr.json']);
});

test('texts and attributes are put where the page asks for them', () => {
  const element = (attributes) => ({
    getAttribute: (name) => attributes[name] ?? null,
    setAttribute: (name, value) => (attributes[name] = value),
    attributes,
  });
  const text = element({ 'data-i18n': 'plain' });
  const field = element({ 'data-i18n-attr': 'placeholder:plain  aria-label:same' });
  translate({ querySelectorAll: (selector) => (selector === '[data-i18n]' ? [text] : [field]) });
  assert.equal(text.textContent, 'Send');
  assert.deepEqual([field.attributes.placeholder, field.attributes['aria-label']], ['Send', '{count} bytes']);
});

test('a name from right to left turns nothing around it, and no name anything by marks', async () => {
  reader('en');
  await initI18n();
  const dana = '\u05d3\u05e0\u05d4';
  assert.equal(t('hello', { name: dana, count: 1, all: 'x' }), `Hello \u2068${dana}\u2069, \u2068${dana}\u2069! 1 of x`);
  assert.equal(isolated('\u202eeve\u2069'), 'eve');
  assert.equal(isolated(`${dana}\u2069\u202d`), `\u2068${dana}\u2069`);
  assert.equal(isolated('\u{1e900}'), '\u2068\u{1e900}\u2069');
  assert.equal(isolated('\u{1f468}\u200d\u{1f469}'), '\u{1f468}\u200d\u{1f469}');
});

test('a text is cut between characters, as people see them', () => {
  const family = '\u{1f468}\u200d\u{1f469}\u200d\u{1f467}';
  for (const end of ['\u{1f44d}', family, 'e\u0301', '\u{1f1f9}\u{1f1f7}', '\u{1f44d}\u{1f3fd}']) {
    for (let most = 3; most < 3 + end.length; most += 1) assert.equal(beginning(`abc${end}d`, most), 'abc', `${end} ${most}`);
    assert.equal(beginning(`abc${end}d`, 3 + end.length), `abc${end}`);
    assert.equal(firstCharacter(`${end}d`), end);
  }
  assert.equal(beginning('short', 5), 'short');
  assert.equal(firstCharacter(''), '');
  const { Segmenter } = Intl;
  delete Intl.Segmenter; // an older browser
  assert.equal(beginning('abc\u{1f44d}', 4), 'abc');
  assert.equal(firstCharacter('\u{1f44d}d'), '\u{1f44d}');
  Intl.Segmenter = Segmenter;
});
