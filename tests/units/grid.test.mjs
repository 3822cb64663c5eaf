/** Where each picture stands (`static/js/room/grid.js`, `pages.js`, `corner.js`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import './browser.mjs';
import { cornerAt, cornerBy } from '../../static/js/room/corner.js';
import { duet, focus, grid } from '../../static/js/room/grid.js';
import { BAR, paged } from '../../static/js/room/pages.js';

/** From a phone, upright and laid down, to a wall. */
const WINDOWS = [
  [320, 480],
  [360, 560],
  [412, 915],
  [560, 300],
  [768, 1024],
  [800, 800],
  [900, 600],
  [1366, 700],
  [1920, 980],
  [2560, 1300],
  [3840, 1200],
].map(([width, height]) => ({ width, height }));
const MOST = 20;
const CLOSE = 0.01; // CSS pixels that rounding may cost

const right = (one) => one.left + one.width;
const bottom = (one) => one.top + one.height;

const isInside = (one, area) =>
  one.left >= -CLOSE && one.top >= -CLOSE && right(one) <= area.width + CLOSE && bottom(one) <= area.height + CLOSE;

const isApart = (one, other) =>
  right(one) <= other.left + CLOSE ||
  right(other) <= one.left + CLOSE ||
  bottom(one) <= other.top + CLOSE ||
  bottom(other) <= one.top + CLOSE;

/** Each picture is inside, large enough to be seen, and over no other. */
function check(places, count, area) {
  const told = JSON.stringify({ count, area, places });
  assert.equal(places.length, count, told);
  places.forEach((one, at) => {
    assert.ok(isInside(one, area), `inside: ${told}`);
    assert.ok(one.width >= 40 && one.height >= 20, `to be seen: ${told}`);
    assert.ok(places.slice(at + 1).every((other) => isApart(one, other)), `apart: ${told}`);
  });
}

const size = ({ width, height }) => width * height;

test('a grid fills every window, inside and none over another', () => {
  for (const area of WINDOWS) {
    for (let count = 1; count <= MOST; count += 1) check(grid(count, area), count, area);
  }
});

test('some large and some small fill every window, inside and none over another', () => {
  for (const area of WINDOWS) {
    for (const large of [1, 2, 3]) {
      for (let small = 0; small <= 12; small += 1) check(focus(large, small, area), large + small, area);
    }
  }
});

test('pictures of a grid are alike and neither too wide nor too tall', () => {
  for (const area of WINDOWS) {
    const tallest = area.width < area.height ? 3 / 5 : 1;
    for (let count = 1; count <= MOST; count += 1) {
      const places = grid(count, area);
      assert.equal(new Set(places.map(({ width, height }) => `${width} ${height}`)).size, 1);
      const ratio = places[0].width / places[0].height;
      assert.ok(ratio <= 16 / 9 + CLOSE && ratio >= tallest - CLOSE, JSON.stringify({ area, count, ratio }));
    }
  }
});

test('rows and columns follow the window and the number', () => {
  const shape = (count, width, height) => {
    const places = grid(count, { width, height });
    return [new Set(places.map(({ left }) => left)).size, new Set(places.map(({ top }) => top)).size];
  };
  assert.deepEqual(shape(2, 1600, 600), [2, 1]);
  assert.deepEqual(shape(2, 400, 800), [1, 2]);
  assert.deepEqual(shape(4, 1600, 900), [2, 2]);
  assert.deepEqual(shape(9, 1600, 900), [3, 3]);
  assert.deepEqual(shape(12, 412, 915), [2, 6]);
});

test('one alone has all of a window of its shape, and nobody has nothing', () => {
  assert.deepEqual(grid(1, { width: 1600, height: 900 }), [{ left: 0, top: 0, width: 1600, height: 900 }]);
  assert.deepEqual(grid(0, { width: 1600, height: 900 }), []);
});

test('a last row that is not full is centred', () => {
  const [one, two, three] = grid(3, { width: 1600, height: 900 });
  assert.deepEqual([one.top, two.left > one.left], [two.top, true]);
  assert.ok(three.top > one.top);
  for (const [from, to] of [[one, two], [three, three]]) {
    assert.ok(Math.abs(from.left + right(to) - 1600) < CLOSE, JSON.stringify([from, to]));
  }
});

test('a window without space has pictures without size, none below it', () => {
  for (const area of [[10, 10], [10, 9], [9, 10], [12, 2], [0, 9], [9, 0], [0, 0]].map(([width, height]) => ({ width, height }))) {
    for (const place of [...grid(9, area), ...grid(2, area, 0), ...focus(1, 9, area), ...focus(2, 1, area)]) {
      assert.ok(place.width >= 0 && place.height >= 0, JSON.stringify([area, place]));
      assert.ok(Number.isFinite(place.left) && Number.isFinite(place.top), JSON.stringify([area, place]));
    }
  }
});

test('those beside what is pinned stand in a strip, beside it or below', () => {
  const wide = focus(1, 3, { width: 1600, height: 900 });
  assert.ok(wide.slice(1).every((one) => one.left >= right(wide[0]) && one.width <= 240));
  const tall = focus(1, 3, { width: 500, height: 900 });
  assert.ok(tall.slice(1).every((one) => one.top >= bottom(tall[0]) && one.height <= 900 * 0.22));
  for (const area of WINDOWS) {
    const [large, ...small] = focus(1, 6, area);
    assert.ok(small.every((one) => size(one) * 2 < size(large)), JSON.stringify(area));
  }
});

test('what is pinned alone has the whole window, whatever its shape', () => {
  for (const area of WINDOWS) {
    const [one] = focus(1, 0, area);
    const width = Math.min(area.width, (area.height * 16) / 9);
    assert.ok(Math.abs(one.width - width) < CLOSE && one.height === area.height, JSON.stringify([one, area]));
    assert.ok(isInside(one, area));
  }
});

test('of two the other fills the window, and oneself stands small in its corner', () => {
  for (const area of WINDOWS) {
    const [other, self] = duet(area);
    assert.deepEqual(other, { left: 0, top: 0, ...area });
    assert.ok(isInside(self, area), JSON.stringify({ area, self }));
    assert.deepEqual([area.width - right(self), area.height - bottom(self)], [8, 8]);
    assert.ok(size(self) < size(area) / 4 && self.width >= 96 && self.width <= 360);
    assert.equal(self.width < self.height, area.width < area.height, 'upright as the window is');
  }
});

const CORNERS = ['top left', 'top right', 'bottom left', 'bottom right'];

test('oneself stands in the corner that one chose, in a window of any shape; else in the usual one', () => {
  for (const area of WINDOWS) {
    for (const corner of CORNERS) {
      const [, self] = duet(area, corner);
      assert.ok(isInside(self, area), JSON.stringify({ area, corner, self }));
      const middle = { left: self.left + self.width / 2, top: self.top + self.height / 2 };
      assert.equal(cornerAt(middle, area), corner);
    }
    for (const odd of ['', 'middle', '{}']) assert.deepEqual(duet(area, odd), duet(area, 'bottom right'));
    const several = duet(area, 'top left', 3);
    check(several.slice(0, 3), 3, area);
    assert.deepEqual(several[3], duet(area, 'top left')[1]);
  }
});

test('an arrow key brings it to the next corner, and another key nowhere', () => {
  assert.equal(cornerBy('bottom right', 'ArrowUp'), 'top right');
  assert.equal(cornerBy('top right', 'ArrowLeft'), 'top left');
  assert.equal(cornerBy('top left', 'ArrowDown'), 'bottom left');
  assert.equal(cornerBy('bottom left', 'ArrowRight'), 'bottom right');
  for (const key of ['ArrowDown', 'ArrowRight', 'Enter', ' ', 'Home', 'a']) assert.equal(cornerBy('bottom right', key), 'bottom right', key);
});

test('few are on one page, and everybody is on one of them', () => {
  for (const area of WINDOWS) {
    for (const [large, own] of [[0, 1], [1, 1], [1, 0], [1, 2], [2, 1]]) {
      for (let small = own; small <= 40; small += 1) {
        const { pages, count } = paged(large, small, own, area);
        const told = JSON.stringify({ area, large, own, small, pages, count });
        assert.ok(pages >= 1 && count * pages >= small - own, told);
        assert.ok(pages === 1 || count * (pages - 1) < small - own, `no page is empty: ${told}`);
        assert.ok(count + own <= 16 + own, told);
        if (small < 4) assert.equal(pages, 1, told);
      }
    }
  }
});

test('more than fit well are shown on pages, each picture large enough to be known', () => {
  assert.deepEqual(paged(0, 9, 1, { width: 1264, height: 590 }), { pages: 1, count: 8 });
  assert.deepEqual(paged(0, 10, 1, { width: 374, height: 680 }), { pages: 1, count: 9 });
  assert.deepEqual(paged(0, 20, 1, { width: 1264, height: 590 }), { pages: 2, count: 10 });
  assert.ok(paged(1, 8, 1, { width: 560, height: 260 }).pages > 1);
  for (const area of WINDOWS.filter(({ height }) => height >= 480)) {
    for (const small of [12, 20, 40]) {
      const { pages, count } = paged(0, small, 1, area);
      const left = pages > 1 ? { ...area, height: area.height - BAR } : area;
      const places = grid(count + 1, left);
      check(places, count + 1, left);
      assert.ok(size(places[0]) >= 15_000, JSON.stringify({ area, small, pages, place: places[0] }));
    }
  }
});
