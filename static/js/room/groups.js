/** What was offered to several at once, as one. */

/** @typedef {import('./files.js').Transfer} Transfer */
/**
 * @typedef {object} Sum
 * @property {Transfer['status']} status of the whole: as long as anything may still happen, that
 * @property {number} count to how many it was offered
 * @property {number} took how many have it
 * @property {number} share of what those get who said yes, 0 to 1
 */

/** @param {Transfer[]} transfers of one group @returns {Sum} */
export function summed(transfers) {
  const states = new Set(transfers.map(({ status }) => status));
  const order = /** @type {const} */ (['moving', 'offered', 'done', 'declined', 'cancelled', 'failed']);
  const status = order.find((one) => states.has(one)) ?? 'failed';
  const taken = transfers.filter((one) => one.status === 'moving' || one.status === 'done');
  const whole = taken.reduce((sum, { size }) => sum + size, 0);
  const done = taken.reduce((sum, one) => sum + one.done, 0);
  return { status, count: transfers.length, took: transfers.filter((one) => one.status === 'done').length, share: whole ? done / whole : 1 };
}
