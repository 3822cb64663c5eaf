/** The speaker that is chosen (`static/js/room/sound.js`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { put } from './browser.mjs';

/** An element that plays by the speakers there are. */
class Player {
  asked = [];
  there = ['', 'box'];

  async setSinkId(id) {
    this.asked.push(id);
    if (!this.there.includes(id)) throw new Error('NotFoundError');
  }
}
put('HTMLMediaElement', Player);
const { useSpeaker } = await import('../../static/js/room/sound.js');

test('a speaker that can not be used is asked for once, and the system chooses', async () => {
  const player = new Player();
  for (let look = 0; look < 5; look += 1) await useSpeaker(player, 'headset');
  assert.deepEqual(player.asked, ['headset', '']);
  await useSpeaker(player, '');
  player.there.push('headset');
  await useSpeaker(player, 'headset');
  assert.deepEqual(player.asked, ['headset', '', '', 'headset'], 'it is back');
});

test('a refusal that comes late does not undo a later choice', async () => {
  const player = new Player();
  const first = useSpeaker(player, 'headset');
  await useSpeaker(player, 'box');
  await first;
  assert.deepEqual(player.asked, ['headset', 'box']);
});
