/** Recordings that are over: given to the reader, at once or by the next page. */
import { formatDate, t } from '../i18n.js';
import { banner, byId, h, saveFile } from '../page.js';
import { said, size, toast } from './dom.js';
import { leftTapes } from './tape.js';

/** @typedef {import('./tape.js').Tape} Tape */

/** @param {Tape} tape @param {number} [ms] */
export async function save(tape, ms) {
  const film = await tape.film(ms);
  const time = new Date(tape.began).toLocaleString('sv').slice(0, 16).replace(':', '.'); // Swedish is ISO 8601
  saveFile(film, `${t('room.record.file', { time })}.${tape.kind}`);
  toast(t('room.record.saved', { size: size(film.size) }));
  await tape.saved();
}

/** What a page of before has recorded, and could not give to the reader any more. */
export async function offerLeft() {
  for (const tape of await leftTapes()) byId('kept').append(kept(tape));
}

/** @param {Tape} tape */
function kept(tape) {
  const button = (/** @type {string} */ key, /** @type {string} */ look, /** @type {() => Promise<void>} */ act) => {
    const made = said('button', key, { type: 'button', class: `small ${look}` });
    made.addEventListener('click', () => {
      offer.remove();
      void act();
    });
    return made;
  };
  const buttons = h('div', { class: 'row' }, button('room.files.save', 'primary', () => save(tape)), button('room.record.erase', '', () => tape.erase()));
  const offer = banner('info', t('room.record.cut', { time: formatDate(tape.began) }), buttons);
  offer.dataset.notice = 'recording-cut';
  return offer;
}
