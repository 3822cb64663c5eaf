/** How many pictures a page shows where they are too many for one: pure arithmetic, in CSS pixels. */
import { focus, grid } from './grid.js';

/** @typedef {import('./grid.js').Size} Size */

/** So large is each at least, in a grid and beside what is large; so many are on one page at most. */
const LEAST = { grid: 20_000, strip: 4_400 };
const MOST = 16;
/** What the buttons take of the height. */
export const BAR = 52;

/**
 * @param {number} large how many, on each page
 * @param {number} small how many, besides
 * @param {number} own of these, on each page too
 * @param {Size} area
 * @returns {{ pages: number, count: number }} `count`: of those that change from page to page
 */
export function paged(large, small, own, area) {
  const others = small - own;
  if (fit(large, small, area) >= small) return { pages: 1, count: others };
  const most = Math.max(1, fit(large, small, { ...area, height: area.height - BAR }) - own);
  const pages = Math.max(1, Math.ceil(others / most));
  return { pages, count: Math.ceil(others / pages) }; // each as full as the others
}

/** @param {number} large @param {number} small @param {Size} area */
function fit(large, small, area) {
  const least = large ? LEAST.strip : LEAST.grid;
  for (let count = Math.min(small, MOST); count > 1; count -= 1) {
    const [{ width, height }] = large ? focus(large, count, area).slice(-1) : grid(count, area);
    if (width * height >= least) return count;
  }
  return 1;
}
