/** A recording's length, which browsers leave out of the WebM that they record (Matroska, RFC 9559). */

/** Elements, by their IDs. */
const HEADER = 0x1a45dfa3;
const SEGMENT = 0x18538067;
const INFO = 0x1549a966;
const CLUSTER = 0x1f43b675;
const DURATION = 0x4489;
const HEAD = 4096; // bytes in which its facts stand, before the first picture
const OPEN = Infinity; // a size that isn't known: the segment is as long as the file

/** @typedef {{ id: number, from: number, at: number, end: number }} Part an element: where its ID, its content and what follows begin */

/**
 * The same film with its length, where it has a place for it; players then show it, and seek.
 * @param {Blob} film
 * @param {number} ms
 */
export async function withDuration(film, ms) {
  const bytes = new Uint8Array(await film.slice(0, HEAD).arrayBuffer());
  const info = infoOf(bytes);
  if (!info) return film;
  const kept = [...parts(bytes, info.at, info.end)].filter(({ id }) => id !== DURATION);
  const content = kept.flatMap(({ from, end }) => [...bytes.subarray(from, end)]);
  const head = [...idBytes(INFO), ...sizeBytes(content.length + 11), ...content, ...idBytes(DURATION), 0x88, ...floatBytes(ms)];
  return new Blob([bytes.subarray(0, info.from), new Uint8Array(head), film.slice(info.end)], { type: film.type });
}

/** The facts of a segment that is open, so that they may grow. @param {Uint8Array} bytes @returns {Part | undefined} */
function infoOf(bytes) {
  const [header, segment] = parts(bytes, 0, bytes.length);
  if (header?.id !== HEADER || segment?.id !== SEGMENT || segment.end !== OPEN) return undefined;
  for (const part of parts(bytes, segment.at, bytes.length)) {
    if (part.id === INFO) return part.end <= bytes.length ? part : undefined;
    if (part.id === CLUSTER) break;
  }
  return undefined;
}

/** @param {Uint8Array} bytes @param {number} at @param {number} end @returns {Generator<Part>} */
function* parts(bytes, at, end) {
  while (at < end) {
    const id = variable(bytes, at);
    const size = variable(bytes, at + id.length);
    if (!id.length || !size.length) return;
    const from = at;
    at += id.length + size.length;
    const isOpen = size.value === 2 ** (7 * size.length) - 1; // all ones
    const next = isOpen ? OPEN : at + size.value;
    yield { id: id.value + 2 ** (7 * id.length), from, at, end: next };
    at = next;
  }
}

/** A number of a length of its own (RFC 8794, section 4), without its marker. @param {Uint8Array} bytes @param {number} at */
function variable(bytes, at) {
  const length = Math.clz32(bytes[at] ?? 0) - 23; // of the first byte's leading zeros, and one
  if (length > 8 || at + length > bytes.length) return { value: 0, length: 0 };
  const rest = bytes.subarray(at + 1, at + length);
  return { value: rest.reduce((sum, byte) => sum * 256 + byte, bytes[at] - 2 ** (8 - length)), length };
}

/** @param {number} id @returns {number[]} */
const idBytes = (id) => (id ? [...idBytes(Math.floor(id / 256)), id % 256] : []);

/** A size of four bytes. @param {number} size */
const sizeBytes = (size) => [0x10 + (size >> 24), (size >> 16) & 255, (size >> 8) & 255, size & 255];

/** In units of a millisecond, which are the usual. @param {number} value */
function floatBytes(value) {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  return new Uint8Array(view.buffer);
}
