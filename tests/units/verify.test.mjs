/** The words by which two people know that nobody sits between them (`static/js/room/verify.js`). */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import './browser.mjs';
import { certificateOf, PICTURES, wordsOf } from '../../static/js/room/verify.js';

const print = (byte) => Array(32).fill(byte).join(':');
const sdp = (...prints) => ['v=0', ...prints.map((one) => `a=fingerprint:sha-256 ${one}`), 'a=setup:actpass', ''].join('\r\n');
const [ada, bob, eve] = ['AA', 'BB', 'EE'].map((byte) => sdp(print(byte)));

test('both sides make the same twelve words, and others with somebody between them', async () => {
  const words = await wordsOf([ada, bob]);
  assert.deepEqual(words, await wordsOf([bob, ada]));
  assert.equal(words.length, 12);
  assert.ok(words.every((word) => word >= 0 && word < 64));
  const [mine, theirs] = [await wordsOf([ada, eve]), await wordsOf([eve, bob])];
  assert.ok(mine.filter((word, at) => word === theirs[at]).length < 6, `${mine} ${theirs}`);
});

test('they are what other versions of the page make', async () => {
  assert.deepEqual(await wordsOf([ada, bob]), [10, 48, 34, 36, 36, 28, 48, 59, 29, 43, 45, 54]);
});

test('a certificate that is named for each stream is one, in whatever letters', () => {
  assert.equal(certificateOf(sdp(print('AA'), print('aa'))), `sha-256 ${print('AA')}`);
});

test('whoever names several certificates, of which any would be taken, gets no words', async () => {
  const both = sdp(print('BB'), print('EE'));
  assert.equal(certificateOf(both), undefined);
  assert.equal(await wordsOf([ada, both]), undefined);
  assert.equal(await wordsOf([ada, sdp()]), undefined);
  assert.equal(await wordsOf([ada, undefined]), undefined);
});

test('each picture is another, with another name in each language', async () => {
  assert.equal(new Set(PICTURES).size, 64);
  for (const language of ['en', 'tr']) {
    const texts = JSON.parse(await readFile(new URL(`../../static/i18n/${language}.json`, import.meta.url), 'utf-8'));
    const names = texts['room.verify.words'].split(',');
    assert.equal(new Set(names).size, 64, language);
    assert.ok(names.every((name) => name === name.trim() && name));
  }
});
