/** Who this browser is in a room: known before the engine of a call (`room.js`) is there. */

/**
 * The secret by which this browser is the same client in a room after a reload, and in each tab.
 * @param {string} roomId
 */
export function roomSession(roomId) {
  const key = `rtapp.room.${roomId}`;
  const found = sessions.get(key) ?? stored(key) ?? newSession();
  sessions.set(key, found);
  return found;
}

/** Storage may be forbidden: then it lasts as long as the page. @type {Map<string, string>} */
const sessions = new Map();

/** @param {string} key */
function stored(key) {
  try {
    const found = localStorage.getItem(key) ?? newSession();
    localStorage.setItem(key, found);
    return found;
  } catch {
    return undefined;
  }
}

function newSession() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replace(/[+/=]/g, (c) => ({ '+': '-', '/': '_' })[c] ?? '');
}
