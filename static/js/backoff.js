/** How long to wait before the next attempt. */

/**
 * Exponential backoff with full jitter, the jitter applied after the cap: clients that lost the
 * same server come back spread out.
 * @param {number} attempt 0 for the first
 * @param {{ base?: number, cap?: number }} [options] milliseconds
 */
export function backoff(attempt, { base = 1000, cap = 30_000 } = {}) {
  return Math.random() * Math.min(cap, base * 2 ** attempt);
}

/**
 * Wait; ends early when the signal aborts, or the browser says that the network is back.
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      removeEventListener('online', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
    addEventListener('online', done);
  });
}
