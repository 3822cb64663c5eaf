/** Small functions of several pages. */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import './browser.mjs';
import { ApiError } from '../../static/js/api.js';
import { formatBytes, formatDuration, setLanguage, t } from '../../static/js/i18n.js';
import { errorTitle, h } from '../../static/js/page.js';
import { deviceName } from '../../static/js/agent.js';
import { passwordFault } from '../../static/js/rules.js';
import { loudness, SILENCE } from '../../static/js/room/sound.js';

beforeEach(() => setLanguage('en', false));

const plain = (text) => text.replace(/\s/gu, ' ');

test('a device is named by its browser and its system', () => {
  const names = {
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/150.0.0.0 Safari/537.36': 'Chrome, Windows',
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/150.0 Safari/537.36 Edg/150.0': 'Edge, Windows',
    'Mozilla/5.0 (Linux; Android 16) SamsungBrowser/30.0 Chrome/150.0 Mobile': 'Samsung Internet, Android',
    'Mozilla/5.0 (X11; Linux x86_64) Chrome/150.0 Safari/537.36 OPR/120.0': 'Opera, Linux',
    'Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0': 'Firefox, Linux',
    'Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) Chrome/150.0 Safari/537.36': 'Chrome, ChromeOS',
    'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/19.0 Safari/605.1.15': 'Safari, macOS',
    'Mozilla/5.0 (iPhone; CPU iPhone OS 26_0 like Mac OS X) CriOS/150.0 Mobile/15E148 Safari/604.1': 'Chrome, iPhone',
    'Mozilla/5.0 (iPad; CPU OS 26_0 like Mac OS X) FxiOS/150.0 Mobile/15E148 Safari/605.1.15': 'Firefox, iPad',
    'curl/8.5.0': '',
    '': '',
  };
  for (const [agent, name] of Object.entries(names)) assert.equal(deviceName(agent), name, agent);
});

test('a password has at least eight characters, as the server counts them', () => {
  assert.deepEqual(['', '1234567', 'şifre12', '👋👋👋👋'].map(passwordFault), Array(4).fill('password.short'));
  assert.deepEqual(['12345678', '👋'.repeat(8)].map(passwordFault), [undefined, undefined]);
});

test('an error is told in the language of the page, where it has a text of its own', async () => {
  const error = (status) => errorTitle(new ApiError({ status, code: 'x', title: "The server's" }));
  const said = () => [0, 401, 403, 413, 422, 429, 500, 503].map(error);
  const english = said();
  assert.equal(new Set(english).size, 8);
  assert.deepEqual([error(404), error(409)], ["The server's", "The server's"]);
  assert.equal(errorTitle(new TypeError('a fault of ours')), t('error.unexpected'));
  await setLanguage('tr', false);
  assert.ok(said().every((text) => !english.includes(text)));
});

test('a long wait is told in minutes', async () => {
  assert.match(t('form.wait', { time: formatDuration(5) }), /Try again in 5 seconds\.$/);
  await setLanguage('tr', false);
  assert.ok(t('form.wait', { time: formatDuration(124) }).includes('2 dakika 4 saniye sonra'));
});

test('an element has the attributes that are set, and children that are there', () => {
  const child = h('b');
  const given = { class: 'hint', hidden: true, id: undefined, lang: false };
  const { attributes, children } = h('p', given, 'text', undefined, child);
  assert.deepEqual(attributes, { class: 'hint', hidden: '' });
  assert.deepEqual(children, ['text', child]);
});

test('the size of a file is told as people write it', async () => {
  const said = (...all) => all.map((bytes) => plain(formatBytes(bytes)));
  assert.deepEqual(said(0, 1, 5, 999), ['0 bytes', '1 byte', '5 bytes', '999 bytes']);
  assert.deepEqual(said(1_000, 1_549, 2_500_000, 2 ** 30, 5e13), ['1 kB', '1.5 kB', '2.5 MB', '1.1 GB', '50 TB']);
  await setLanguage('tr', false);
  assert.deepEqual(said(2_500_000), ['2,5 MB']);
});

test('loudness goes from silence to full by the ear', () => {
  const at = (decibels) => loudness(10 ** (decibels / 20));
  assert.deepEqual([loudness(0), loudness(1), loudness(100)], [0, 1, 1]);
  const close = (value, wanted) => assert.ok(Math.abs(value - wanted) < 1e-9, `${value} is not ${wanted}`);
  close(at(-60), 0);
  close(at(-33), 0.5);
  close(at(-6), 1);
  close(loudness(SILENCE), 0);
});
