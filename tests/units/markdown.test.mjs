/** What the chat makes of a text (`static/js/room/markdown.js`): hostile ones too. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import './browser.mjs';
import { parse, read as readable } from '../../static/js/room/markdown.js';

/** A tree as markup, to be read at a glance. */
const shown = (nodes) =>
  nodes
    .map((node) => (typeof node === 'string' ? node.replace(/</g, '&lt;') : `<${[node.tag, ...Object.entries(node.attributes ?? {}).map(([name, value]) => `${name}=${value}`)].join(' ')}>${shown(node.children)}</${node.tag}>`))
    .join('');
const is = (text, wanted) => assert.equal(shown(parse(text)), wanted, text);
const plain = (text) => assert.deepEqual(parse(text), [text]);
/** What is read of it, and all links. */
const read = (nodes) => nodes.map((node) => (typeof node === 'string' ? node : read(node.children))).join('');
const links = (nodes) => nodes.flatMap((node) => (typeof node === 'string' ? [] : [...(node.tag === 'a' ? [node.attributes.href] : []), ...links(node.children)]));

test('bold, italic, strikethrough, code, within each other', () => {
  is('a **b** c', 'a <strong>b</strong> c');
  is('*b* _c_ ~~d~~ `e`', '<em>b</em> <em>c</em> <s>d</s> <code>e</code>');
  is('**b *c* d**', '<strong>b <em>c</em> d</strong>');
  is('`**a**`', '<code>**a**</code>');
  is('(**a**), _b_!', '(<strong>a</strong>), <em>b</em>!');
});

test('what only looks like it stays as it was written', () => {
  for (const text of ['2 * 3 * 4', 'snake_case_name', '2*3*4', '** a **', '*', '**', '****', '~~', '``', '`', 'a ~ b', '-5 degrees', '5.5 km', '*a\nb*', '2024. it was', '```', '``` a']) plain(text);
});

test('blocks of code and lists', () => {
  is('```\nif (a) *b*\n\n  c\n```', '<pre><code>if (a) *b*\n\n  c</code></pre>');
  is('so:\n```js\nx\n```\nyes', 'so:<pre><code>x</code></pre>yes');
  is('```\nnever closed', '```\nnever closed');
  is('- a\n- **b**\n* c', '<ul><li>a</li><li><strong>b</strong></li><li>c</li></ul>');
  is('x\n3. a\n4) b\n\ny', 'x<ol start=3><li>a</li><li>b</li></ol>\ny');
  is('a\n\nb', 'a\n\nb');
});

test('links lead where one reads that they do', () => {
  is('see https://example.org/a?b=1, and', 'see <a href=https://example.org/a?b=1>https://example.org/a?b=1</a>, and');
  is('[docs](https://example.org/x)', '<a href=https://example.org/x>docs</a> (example.org)');
  is('**https://example.org/a_b_c**', '<strong><a href=https://example.org/a_b_c>https://example.org/a_b_c</a></strong>');
  for (const text of ['[a](javascript:alert(1))', '[a](data:text/html,x)', '[a](//example.org)', '[a]( https://)', 'javascript:alert(1)', 'https://']) assert.deepEqual(links(parse(text)), [], text);
  // What says that it leads elsewhere than it does is shown as it is.
  const both = '[https://bank.example](https://evil.example/)';
  assert.equal(read(parse(both)), both);
  assert.deepEqual(links(parse(both)), ['https://bank.example', 'https://evil.example/']);
  assert.match(read(parse('[my bank](https://bank.example@evil.example/)')), /evil\.example/);
});

test('a line of it has no marks', () => {
  assert.equal(readable('**a** `b` ~~c~~\n- d\n- e'), 'a b c d e');
});

test('nothing of a text is markup, lost, or slow', () => {
  const hostile = ['<img src=x onerror=alert(1)>', '<script>alert(1)</script>', '[<b>](https://example.org/"onmouseover="x)', '`<i>`', '&lt;', '\u202e**a**'];
  for (const text of hostile) for (const node of parse(text)) assert.ok(typeof node === 'string' || ['a', 'code', 'strong'].includes(node.tag), text);
  for (const href of links(parse(hostile.join(' ')))) assert.match(href, /^https?:\/\/[^"<>\s]+$/);
  const began = performance.now();
  for (const unit of ['*', '**', '_', '`', '~~', '[', '](', '- ', '```\n', '**a', '*a ', '_a_', 'https://', '[a](https://', '1. \n', '> ']) {
    const text = unit.repeat(2000 / unit.length);
    const letters = (one) => one.replace(/[^a\/:htps]/g, '').length;
    assert.ok(letters(read(parse(text))) >= letters(text.trim()) || /[`\[]/.test(unit), unit);
  }
  assert.ok(performance.now() - began < 5_000);
});
