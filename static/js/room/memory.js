/** What the room page remembers in this browser; where storage is forbidden it lasts as long as the page. */

/** @type {Map<string, string>} */
const here = new Map();
const PREFIX = 'rtapp.call.'; // rtapp.room.<id> is a room's session

/**
 * @template T
 * @param {string} name
 * @param {T} fallback also tells the type: another one that was stored is ignored
 * @returns {T}
 */
export function recall(name, fallback) {
  try {
    const found = JSON.parse(read(name) ?? 'null');
    if (found === null || typeof found !== typeof fallback) return fallback;
    return typeof found === 'object' ? { ...fallback, ...found } : found;
  } catch {
    return fallback;
  }
}

/** @param {string} name @param {unknown} value any JSON value */
export function remember(name, value) {
  const text = JSON.stringify(value);
  here.set(name, text);
  try {
    localStorage.setItem(PREFIX + name, text);
  } catch {
    // Private mode, policy, or full.
  }
}

/** @param {string} name */
function read(name) {
  try {
    return localStorage.getItem(PREFIX + name) ?? here.get(name);
  } catch {
    return here.get(name);
  }
}
