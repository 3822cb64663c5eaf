/** The length of a recording, in its head (`static/js/room/webm.js`; Matroska, RFC 9559). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withDuration } from '../../static/js/room/webm.js';

const HEADER = [0x1a, 0x45, 0xdf, 0xa3, 0x84, 0x42, 0x86, 0x81, 1];
const OPEN = [0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255];
const SCALE = [0x2a, 0xd7, 0xb1, 0x83, 0x0f, 0x42, 0x40];
const info = (...content) => [0x15, 0x49, 0xa9, 0x66, 0x80 + content.length, ...content];
const duration = (ms) => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, ms);
  return [0x44, 0x89, 0x88, ...bytes];
};
const REST = [0x1f, 0x43, 0xb6, 0x75, 0x81, 9, ...Array(10_000).fill(7)];

const film = (...parts) => new Blob([new Uint8Array(parts.flat())], { type: 'video/webm' });
const bytesOf = async (blob) => [...new Uint8Array(await blob.arrayBuffer())];

const wanted = (ms) => [
  ...HEADER,
  ...OPEN,
  ...[0x15, 0x49, 0xa9, 0x66, 0x10, 0, 0, SCALE.length + 11],
  ...SCALE,
  ...duration(ms),
  ...REST,
];

test('a film without a length gets one, and stays as it was', async () => {
  const made = await withDuration(film(HEADER, OPEN, info(...SCALE), REST), 20_040.5);
  assert.deepEqual(await bytesOf(made), wanted(20_040.5));
  assert.equal(made.type, 'video/webm');
});

test('a length that is there is replaced', async () => {
  const made = await withDuration(film(HEADER, OPEN, info(...duration(0), ...SCALE), REST), 7);
  assert.deepEqual(await bytesOf(made), wanted(7));
});

test('what is no such film, or has no place for it, stays as it is', async () => {
  const closed = [0x18, 0x53, 0x80, 0x67, 0x88];
  for (const parts of [[], [[0]], [HEADER], [HEADER, OPEN], [HEADER, OPEN, REST], [HEADER, closed, info(...SCALE)], [HEADER, OPEN, [0x15, 0x49, 0xa9, 0x66, 0x8f, 1]], [REST], [[0, 0, 0, 24], REST]]) {
    const given = film(...parts);
    assert.equal(await withDuration(given, 5), given);
  }
});
