/** Names as they are shown: nothing unseen in them, none turned around, two of one told apart. */
import { t } from '../i18n.js';

/** @typedef {{ displayName: string, isSelf?: boolean }} Named */

/** Widths, directions, blank letters, controls; not what joins the parts of an emoji or of a script. */
const UNSEEN =
  /[\p{Cc}\p{Zl}\p{Zp}\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0]/gu;

/** Which of several of one name somebody is. @type {WeakMap<Named, { key: string, number: number }>} */
const places = new WeakMap();

/** A name without what isn't seen; empty where there is nothing to see. @param {string} name */
export function visible(name) {
  const plain = name.replace(UNSEEN, '').trim();
  return /[^\p{Cf}\p{M}\s]/u.test(plain) ? plain : '';
}

/**
 * Number those of one name; whoever has a number keeps it.
 * @param {Named[]} people in the order in which they came
 */
export function tellApart(people) {
  /** @param {Named} one */
  const known = (one) => {
    const place = places.get(one);
    return place?.key === keyOf(one) ? place : undefined;
  };
  for (const one of people) {
    if (known(one)) continue;
    const taken = people.map(known).filter((place) => place?.key === keyOf(one));
    let number = 1;
    while (taken.some((place) => place?.number === number)) number += 1;
    places.set(one, { key: keyOf(one), number });
  }
}

/** What two names have in common that a reader can't tell apart. @param {Named} one */
const keyOf = ({ displayName }) => visible(displayName).normalize('NFKC').toLowerCase();

/** Somebody's name, with a number after the first of that name; oneself is told. @param {Named} person */
export function nameOf(person) {
  const name = visible(person.displayName) || t('room.guest');
  if (person.isSelf) return t('room.you', { name });
  const number = places.get(person)?.number ?? 1;
  return number > 1 ? `${name} (${number})` : name;
}
