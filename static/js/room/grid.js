/** Where each picture stands: pure arithmetic, in CSS pixels. */

/** @typedef {{ left: number, top: number, width: number, height: number }} Place */
/** @typedef {{ width: number, height: number }} Size */

const GAP = 8;
const WIDEST = 16 / 9;
/** The least width by height: in a phone held upright, and elsewhere. */
const TALLEST = { upright: 3 / 5, wide: 1 };
const STRIP = 0.22; // of the longer side, for those beside what is pinned
const STRIP_MOST = 240;

/**
 * The grid in which `count` pictures are largest: rows and columns follow the number and the window.
 * @param {number} count
 * @param {Size} area
 * @param {number} [tallest] the least width by height; 0: as tall as the area
 * @returns {Place[]}
 */
export function grid(count, area, tallest = area.width < area.height ? TALLEST.upright : TALLEST.wide) {
  let best = { columns: 1, ...cell(1, count, area, tallest) };
  for (let columns = 2; columns <= count; columns += 1) {
    const next = { columns, ...cell(columns, count, area, tallest) };
    if (next.width * next.height > best.width * best.height * 1.001) best = next;
  }
  return Array.from({ length: count }, (_, at) => place(at, count, best, area));
}

/** @param {number} columns @param {number} count @param {Size} area @param {number} tallest @returns {Size} */
function cell(columns, count, area, tallest) {
  const rows = Math.ceil(count / columns);
  const width = Math.max(0, (area.width - GAP * (columns - 1)) / columns);
  const height = Math.max(0, (area.height - GAP * (rows - 1)) / rows);
  const highest = width ? width / tallest : 0; // `tallest` may be 0 too
  return { width: Math.min(width, height * WIDEST), height: Math.min(height, highest) };
}

/** The last row is centred. @param {number} at @param {number} count @param {Size & { columns: number }} cells @param {Size} area */
function place(at, count, { columns, width, height }, area) {
  const rows = Math.ceil(count / columns);
  const row = Math.floor(at / columns);
  const inRow = row === rows - 1 ? count - columns * (rows - 1) : columns;
  const left = (area.width - inRow * width - (inRow - 1) * GAP) / 2 + (at % columns) * (width + GAP);
  const top = (area.height - rows * height - (rows - 1) * GAP) / 2 + row * (height + GAP);
  return { left, top, width, height };
}

/**
 * Some large, the others in a strip: beside them in a wide window, below them in a tall one.
 * @param {number} large how many
 * @param {number} small how many
 * @param {Size} area
 * @returns {Place[]} first the large ones
 */
export function focus(large, small, area) {
  if (!small) return grid(large, area, 0);
  const wide = area.width > area.height * 1.1;
  const side = wide ? area.width : area.height;
  const strip = Math.min(STRIP_MOST, side * STRIP);
  const rest = Math.max(0, side - strip - GAP);
  const main = wide ? { ...area, width: rest } : { ...area, height: rest };
  const edge = wide ? { ...area, width: strip } : { ...area, height: strip };
  const [dx, dy] = wide ? [rest + GAP, 0] : [0, rest + GAP];
  const beside = grid(small, edge, 1).map((one) => ({ ...one, left: one.left + dx, top: one.top + dy }));
  return [...grid(large, main, 0), ...beside];
}

/**
 * The others fill the room, oneself is a small picture in a corner.
 * @param {Size} area
 * @param {string} [corner] `top` or `bottom`, and `left` or `right`
 * @param {number} [large] how many others
 * @returns {Place[]} the others, oneself
 */
export function duet(area, corner = '', large = 1) {
  const width = Math.max(96, Math.min(360, Math.min(area.width, area.height) * 0.3));
  const height = area.width < area.height ? (width * 4) / 3 : (width * 9) / 16;
  const left = corner.endsWith('left') ? GAP : area.width - width - GAP;
  const top = corner.startsWith('top') ? GAP : area.height - height - GAP;
  const others = large > 1 ? grid(large, area, 0) : [{ left: 0, top: 0, ...area }];
  return [...others, { left, top, width, height }];
}
