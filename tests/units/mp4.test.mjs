/** The length of a recording, in its head (`static/js/room/mp4.js`; ISO/IEC 14496-12). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withDuration } from '../../static/js/room/mp4.js';

const four = (value) => [24, 16, 8, 0].map((bits) => (value >>> bits) & 255);
const box = (type, ...content) => {
  const bytes = content.flat();
  return [...four(bytes.length + 8), ...[...type].map((letter) => letter.charCodeAt(0)), ...bytes];
};
const zeros = (count) => Array(count).fill(0);
const wide = (value) => [...four(0), ...four(value)];

/** A film as MediaRecorder begins it: the same boxes, of the first version or of the second. */
const film = ({ version = 0, of = [0, 0, 0, 0], more = [] }) => {
  const head = [version, 0, 0, 0];
  const size = version ? wide : four;
  const dates = zeros(version ? 16 : 8);
  const [movie, track, media, extended] = of.map(size);
  return [
    ...box('ftyp', [...'isom'].map((letter) => letter.charCodeAt(0)), zeros(4)),
    ...box('moov',
      box('mvhd', head, dates, four(1_000), movie, zeros(80)),
      box('trak',
        box('tkhd', head, dates, four(1), zeros(4), track, zeros(60)),
        box('mdia', box('mdhd', head, dates, four(90_000), media, zeros(4)), box('minf', zeros(20)))),
      box('mvex', box('mehd', head, extended), box('trex', zeros(24))), more),
    ...box('moof', zeros(100)), ...box('mdat', Array(100_000).fill(7)),
  ];
};
const blob = (bytes) => new Blob([new Uint8Array(bytes)], { type: 'video/mp4' });
const bytesOf = async (one) => [...new Uint8Array(await one.arrayBuffer())];

test('a film in fragments without a length gets one in each place, of both versions', async () => {
  for (const version of [0, 1]) {
    const made = await withDuration(blob(film({ version })), 20_040.4);
    assert.deepEqual(await bytesOf(made), film({ version, of: [20_040, 20_040, 1_803_636, 20_040] }));
    assert.equal(made.type, 'video/mp4');
  }
});

test('what is whole, no such film, or cut short stays as it is', async () => {
  const whole = [...box('ftyp', zeros(8)), ...box('moov', box('mvhd', zeros(100))), ...box('mdat', zeros(50))];
  const endless = [...box('ftyp', zeros(8)), 0, 0, 0, 0, 109, 111, 111, 118];
  for (const bytes of [[], [0], whole, endless, film({}).slice(0, 200), film({ more: box('udta', zeros(70_000)) })]) {
    const given = blob(bytes);
    assert.equal(await withDuration(given, 5), given);
  }
});

test('so does one of which the length is not known, and boxes in boxes have an end', async () => {
  const given = blob(film({}));
  for (const ms of [0, -1, NaN, Infinity]) assert.equal(await withDuration(given, ms), given);
  const deep = Array(8_000).fill(0).flatMap((_, at) => [...four((8_000 - at) * 8), ...[...'moov'].map((letter) => letter.charCodeAt(0))]);
  assert.deepEqual((await bytesOf(await withDuration(blob(deep), 5))).length, deep.length);
});
