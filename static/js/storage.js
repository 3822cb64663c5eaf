/** What this browser remembers; where storage is forbidden (private mode, policy) it lasts as long as the page. */

/** @type {Map<string, string>} */
const here = new Map();

/** @param {string} key @returns {string | null} */
export function stored(key) {
  try {
    return localStorage.getItem(key) ?? here.get(key) ?? null;
  } catch {
    return here.get(key) ?? null;
  }
}

/** @param {string} key @param {string} value */
export function store(key, value) {
  try {
    localStorage.setItem(key, value);
    here.delete(key);
  } catch {
    here.set(key, value); // forbidden, or full
  }
}
