/** What a key means, by its letter or its place (`static/js/room/keys.js`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import './browser.mjs';
import { keyName } from '../../static/js/room/keys.js';

const name = (key, code) => keyName({ key, code });

test('a letter of ours is itself, wherever it stands', () => {
  assert.equal(name('m', 'KeyM'), 'm');
  assert.equal(name('M', 'KeyM'), 'm');
  assert.equal(name('m', 'Semicolon'), 'm', 'French');
  assert.equal(name(',', 'KeyM'), ',', 'French');
  assert.equal(name('Enter', 'Enter'), 'Enter');
  assert.equal(name(' ', 'Space'), ' ');
  assert.equal(name('?', 'Digit7'), '?');
});

test('a letter of another script counts by its place', () => {
  assert.equal(name('ь', 'KeyM'), 'm');
  assert.equal(name('Ь', 'KeyM'), 'm');
  assert.equal(name('μ', 'KeyM'), 'm', 'Greek');
  assert.equal(name('لا', 'KeyB'), 'b', 'Arabic: two letters');
  assert.equal(name('ש', 'KeyA'), 'a', 'Hebrew');
  assert.equal(name('ี', 'KeyU'), 'u', 'Thai: a mark');
  assert.equal(name('ㅡ', 'KeyM'), 'm', 'Korean');
  assert.equal(name('ж', 'Semicolon'), 'ж', 'no letter of ours is there');
});

test('Latin letters that are not ours are none of them', () => {
  for (const [key, code] of [['ı', 'KeyI'], ['İ', 'KeyI'], ['ö', 'Comma'], ['ß', 'Minus'], ['µ', 'KeyM']]) {
    assert.equal(name(key, code), key.toLowerCase());
  }
});
