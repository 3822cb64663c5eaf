/** Names as they are shown (`static/js/room/names.js`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import './browser.mjs';
import { setLanguage } from '../../static/js/i18n.js';
import { nameOf, tellApart, visible } from '../../static/js/room/names.js';

await setLanguage('en', false);

const named = (...names) => names.map((displayName) => ({ displayName }));
const shown = (people) => people.map(nameOf);

test('what is not seen is left out, and what joins is kept', () => {
  assert.equal(visible('\u202ename'), 'name');
  assert.equal(visible(' A\u200bda\u2060 '), 'Ada');
  for (const nothing of ['', '\u200b\u2060', '\u3164', '\u200d', '\ufe0f', '\u0301', '\u{e0061}', ' \u00a0']) {
    assert.equal(visible(nothing), '', JSON.stringify(nothing));
  }
  for (const name of ['👨\u200d👩\u200d👧', '❤\ufe0f', 'نمی\u200cخواهم', 'דנה', 'é', '🏴\u{e0067}\u{e0062}\u{e007f}']) {
    assert.equal(visible(name), name);
  }
});

test('whoever has no name to be seen is a guest', () => {
  assert.deepEqual(shown(named('\u200b', 'Ada')), ['Guest', 'Ada']);
});

test('two of one name are numbered in the order in which they came, and keep it', () => {
  const [one, two, three, other] = named('Ada', 'ada', 'Ａｄａ\u200b', 'Bob');
  tellApart([one, two, other]);
  assert.deepEqual(shown([one, two, other]), ['Ada', 'ada (2)', 'Bob']);
  tellApart([two, other, three]);
  assert.deepEqual(shown([two, other]), ['ada (2)', 'Bob'], 'the first has left');
  assert.equal(nameOf(three), 'Ａｄａ');
});

test('a name that was changed is counted anew, and oneself is told', () => {
  const [one, two] = named('Ada', 'Bob');
  tellApart([one, two]);
  two.displayName = 'Ada';
  tellApart([one, two]);
  assert.equal(nameOf(two), 'Ada (2)');
  assert.equal(nameOf(Object.assign(two, { isSelf: true })), 'Ada (you)');
});
