/** What the room page remembers in this browser. */

import { store, stored } from '../storage.js';

const PREFIX = 'rtapp.call.'; // rtapp.room.<id> is a room's session

/**
 * @template T
 * @param {string} name
 * @param {T} fallback also tells the type: another one that was stored is ignored
 * @returns {T}
 */
export function recall(name, fallback) {
  try {
    const found = JSON.parse(stored(PREFIX + name) ?? 'null');
    if (found === null || typeof found !== typeof fallback) return fallback;
    return typeof found === 'object' ? { ...fallback, ...found } : found;
  } catch {
    return fallback;
  }
}

/** @param {string} name @param {unknown} value any JSON value */
export const remember = (name, value) => store(PREFIX + name, JSON.stringify(value));
