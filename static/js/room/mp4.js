/** A recording's length, which browsers leave out of the MP4 that they record in fragments (ISO/IEC 14496-12). */

const HEAD = 65_536; // bytes in which its facts stand, before the first picture
const HOLDERS = /^(moov|trak|mdia|mvex)$/; // boxes of boxes
const DEPTH = 4; // of boxes in boxes, where the lengths stand
const UNKNOWN = 0xffffffff; // a length: more than fits is said so
/** Where in a box its length stands, in version 0 and in version 1. @type {Record<string, number[]>} */
const PLACES = { mvhd: [16, 24], tkhd: [20, 28], mdhd: [16, 24], mehd: [4, 4] };

/** @typedef {{ type: string, at: number, end: number }} Box where its content begins, and what follows */

/**
 * The same film with its length, in the places that are left for it; players then show it, and seek.
 * @param {Blob} film
 * @param {number} ms
 */
export async function withDuration(film, ms) {
  if (!(ms > 0 && ms < Infinity)) return film;
  const bytes = new DataView(await film.slice(0, HEAD).arrayBuffer());
  const all = [...boxes(bytes, 0, bytes.byteLength)];
  if (!all.some(({ type }) => type === 'mvex')) return film; // it is whole, or none
  let scale = 0; // units in a second: of the film, or of a track
  for (const { type, at, end } of all) {
    if (!(type in PLACES) || at === end) continue;
    const version = bytes.getUint8(at) ? 1 : 0;
    const to = at + PLACES[type][version];
    if (to + (version ? 8 : 4) > end) continue;
    const own = bytes.getUint32(to - 4);
    if (type === 'mvhd') scale = own;
    const length = Math.round((ms / 1000) * (type === 'mdhd' ? own : scale));
    if (version) bytes.setBigUint64(to, BigInt(length));
    else bytes.setUint32(to, Math.min(length, UNKNOWN));
  }
  return new Blob([bytes, film.slice(bytes.byteLength)], { type: film.type });
}

/** Those that are here as a whole, each before what it holds. @param {DataView} bytes @param {number} at @param {number} end @param {number} [depth] @returns {Generator<Box>} */
function* boxes(bytes, at, end, depth = 1) {
  while (at + 8 <= end) {
    const next = at + bytes.getUint32(at);
    if (next < at + 8 || next > end) return;
    const type = String.fromCharCode(...new Uint8Array(bytes.buffer, at + 4, 4));
    yield { type, at: at + 8, end: next };
    if (depth < DEPTH && HOLDERS.test(type)) yield* boxes(bytes, at + 8, next, depth + 1);
    at = next;
  }
}
