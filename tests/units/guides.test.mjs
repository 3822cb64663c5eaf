/** The guides' Markdown as data (`static/js/guide-text.js`). */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { inline, parse, slug } from '../../static/js/guide-text.js';

const text = (words) => ({ kind: 'text', text: words });
const code = (words) => ({ kind: 'code', text: words });

test('what stands in a line', () => {
  assert.deepEqual(inline('a `b*c*` **d `e`** *f g* 2 * 3 * 4'), [
    text('a '),
    code('b*c*'),
    text(' '),
    { kind: 'strong', parts: [text('d '), code('e')] },
    text(' '),
    { kind: 'em', parts: [text('f g')] },
    text(' 2 * 3 * 4'),
  ]);
  assert.deepEqual(inline('[`x`](a.md#b)<br>![p](../p.svg) \\*'), [
    { kind: 'link', parts: [code('x')], target: 'a.md#b' },
    { kind: 'break' },
    { kind: 'image', text: 'p', target: '../p.svg' },
    text(' '),
    text('*'),
  ]);
});

test('what is no Markdown of ours stays text', () => {
  const words = '<script>alert(1)</script> <img src=x onerror=y> a_b_c [x] (y) ![z] `';
  assert.deepEqual(inline(words), [text(words)]);
  assert.deepEqual(parse(words), [{ kind: 'paragraph', parts: [text(words)] }]);
});

test('blocks end where another begins', () => {
  const [title, words, list, fence, ...rest] = parse('# T\na\nb\n- c\n  d\n\n  e\n- f\n```sh\n# x\n- y\n```\n<!-- no -->\n');
  assert.deepEqual(title, { kind: 'heading', level: 1, id: 't', parts: [text('T')] });
  assert.deepEqual(words, { kind: 'paragraph', parts: [text('a\nb')] });
  assert.equal(list.kind, 'list');
  assert.deepEqual(list.items.map((item) => item.length), [2, 1]);
  assert.deepEqual(fence, { kind: 'code', language: 'sh', text: '# x\n- y' });
  assert.deepEqual(rest, []);
});

test('an item holds code', () => {
  const [list] = parse('1. a:\n\n   ```python\n   def f():\n       pass\n   ```\n\n2. b\n');
  assert.equal(list.ordered, true);
  assert.deepEqual(list.items[0][1], { kind: 'code', language: 'python', text: 'def f():\n    pass' });
  assert.equal(list.items.length, 2);
});

test('a bar inside a cell is escaped, also in code', () => {
  const [table] = parse('| a | |\n|---|---|\n| `x\\|y` | b \\| c |\n');
  assert.deepEqual(table.rows, [[[code('x|y')], [text('b | c')]]]);
  assert.deepEqual(table.head, [[text('a')], []]);
});

test('titles are named as code hosts name them', () => {
  assert.equal(slug('On your network (LAN)'), 'on-your-network-lan');
  assert.equal(slug("Socket.IO'dan geçiş"), 'socketiodan-geçiş');
  assert.equal(slug('`rt.js`, the client'), 'rtjs-the-client');
});

test('of each guide nothing is left unread', () => {
  const folder = new URL('../../static/docs/', import.meta.url);
  const left = /\]\(|\*\*|^\s*(?:- |\||```|#+ )/m;
  const look = (part, name) => {
    if (part.kind === 'text') assert.doesNotMatch(part.text, left, name);
    for (const inner of part.parts ?? []) look(inner, name);
    for (const inner of part.items?.flat() ?? []) look(inner, name);
    for (const inner of [...(part.head ?? []), ...(part.rows?.flat() ?? [])].flat()) look(inner, name);
  };
  const names = readdirSync(folder);
  assert.ok(names.length >= 20);
  for (const name of names) {
    for (const block of parse(readFileSync(new URL(name, folder), 'utf8'))) look(block, name);
  }
});
