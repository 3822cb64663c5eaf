/** Who this browser is in a room: known before the engine of a call (`room.js`) is there. */

import { store, stored } from './storage.js';

/**
 * The secret by which this browser is the same client in a room after a reload, and in each tab.
 * @param {string} roomId
 */
export function roomSession(roomId) {
  const key = `rtapp.room.${roomId}`;
  const session = stored(key) ?? newSession();
  store(key, session);
  return session;
}

function newSession() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replace(/[+/=]/g, (c) => ({ '+': '-', '/': '_' })[c] ?? '');
}
