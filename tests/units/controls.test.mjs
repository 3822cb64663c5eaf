/** What one can do in a call (`static/js/room/controls.js`). */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import './browser.mjs';
import { CONTROLS } from '../../static/js/room/controls.js';

const page = await readFile(new URL('../../static/room.html', import.meta.url), 'utf-8');
const catalogue = async (language) => JSON.parse(await readFile(new URL(`../../static/i18n/${language}.json`, import.meta.url), 'utf-8'));

test('each control has a name of its own, and a key that no other has', () => {
  const keys = CONTROLS.map(({ key }) => key).filter((key) => key !== undefined);
  for (const all of [CONTROLS.map(({ id }) => id), keys]) assert.equal(new Set(all).size, all.length, String(all));
});

test('each has words in both languages, and an icon of the page where it is to be seen', async () => {
  for (const texts of [await catalogue('en'), await catalogue('tr')]) {
    for (const { text, help = text } of CONTROLS) assert.ok(texts[text] && texts[help], text);
  }
  for (const { id, icon, place } of CONTROLS) {
    if (icon) assert.ok(page.includes(`id="i-${icon}"`), icon);
    else assert.ok(place === 'key' || ['audio', 'video'].includes(id), `${id}: its state makes it`);
  }
});

test('each does something, but for the one that opens the menu of the others', () => {
  const idle = CONTROLS.filter(({ act, held, opens }) => !act && !held && !opens);
  assert.deepEqual(idle.map(({ id }) => id), ['more']);
});
