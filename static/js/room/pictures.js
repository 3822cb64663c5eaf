/** Pictures in the chat: made small enough to send, looked at before they are shown, shown large. */
import { h } from '../page.js';
import { openDialog } from './dom.js';
import { makeDialog } from './parts.js';

const SIDE = 2_048; // pixels of what is sent
const LARGEST_SIDE = 4_096; // of what is shown
const PNG_MOST = 1_500_000; // bytes: a larger one is sent as JPEG
const LOOKED_AT = 256 * 1024; // bytes: before them stands a picture's size
const QUALITY = 0.85;

/**
 * What is sent of a picture: its pixels alone, not where and when it was taken.
 * @param {Blob} blob
 * @returns {Promise<File>} rejected where it is none
 */
export async function shrunk(blob) {
  const picture = await createImageBitmap(blob);
  const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
  const canvas = h('canvas');
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  canvas.getContext('2d')?.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  const exact = blob.type === 'image/jpeg' ? undefined : await coded(canvas, 'image/png');
  const made = exact && exact.size <= PNG_MOST ? exact : await coded(canvas, 'image/jpeg');
  return new File([made], `picture.${made.type === 'image/png' ? 'png' : 'jpg'}`, { type: made.type });
}

/** @param {HTMLCanvasElement} canvas @param {string} type @returns {Promise<Blob>} */
const coded = (canvas, type) =>
  new Promise((resolve, reject) => canvas.toBlob((made) => (made ? resolve(made) : reject(new Error(type))), type, QUALITY));

/**
 * A picture that somebody sent, as one may be shown: of a kind that can be nothing else, and not of
 * more pixels than a page can hold.
 * @param {Blob} blob
 * @returns {Promise<Blob | undefined>}
 */
export async function checked(blob) {
  const found = measured(new Uint8Array(await blob.slice(0, LOOKED_AT).arrayBuffer()));
  const isFine = found && found.width > 0 && found.height > 0 && Math.max(found.width, found.height) <= LARGEST_SIDE;
  return isFine ? new Blob([blob], { type: found.type }) : undefined;
}

/**
 * The kind and size of a PNG (its first chunk) or a JPEG (its frame header), by their first bytes.
 * @param {Uint8Array} bytes
 */
export function measured(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length >= 24 && view.getUint32(0) === 0x89504e47 && view.getUint32(12) === 0x49484452) {
    return { type: 'image/png', width: view.getUint32(16), height: view.getUint32(20) };
  }
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return undefined;
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff; at += 2 + view.getUint16(at + 2)) {
    const isFrame = bytes[at + 1] >= 0xc0 && bytes[at + 1] <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(bytes[at + 1]);
    if (isFrame) return { type: 'image/jpeg', width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
  }
  return undefined;
}

/** @type {{ dialog: HTMLDialogElement, image: HTMLImageElement } | undefined} */
let large;

/** @param {string} url @param {string} alt */
export function enlarge(url, alt) {
  if (!large) {
    const image = h('img', { class: 'picture-large' });
    large = { image, dialog: makeDialog('picture', 'room.picture.title', [image]) };
  }
  Object.assign(large.image, { src: url, alt });
  openDialog(large.dialog);
}
