/**
 * A little Markdown: bold, italic, strikethrough, code, blocks of code, lists, links. Makes a tree;
 * its texts become text nodes, so nothing that somebody writes is ever markup of the page.
 */
import { h } from '../page.js';

/** @typedef {string | { tag: 'strong' | 'em' | 's' | 'code' | 'pre' | 'ul' | 'ol' | 'li' | 'a', attributes?: Record<string, string>, children: Tree[] }} Tree */

/** Lines from ``` to ```; lines that each begin as those of a list do. */
const BLOCK = /^```[^\n`]*\n([^]*?)\n?^```[^\S\n]*$|(?:^ {0,3}(?:[-*+]|\d{1,3}[.)]) +\S.*(?:\n|$))+/gm;
const ITEM = /^ {0,3}(?:[-*+]|(\d{1,3})[.)]) +(.*)$/;
/** Code, an address, [words](address), and what stands between two marks without space inside. */
const SPAN =
  /`([^`\n]+)`|(\bhttps?:\/\/(?:(?!\]\()[^\s<>"])*[^\s<>".,;:!?)\]*~`])|\[([^[\]\n]+)\]\((https?:\/\/[^\s<>")]+)\)|(\*\*|~~|\*|_)(?=\S)(.*?\S)\5/g;
/** @type {Record<string, 'strong' | 's' | 'em'>} */
const MARKS = { '**': 'strong', '~~': 's', '*': 'em', _: 'em' };
const DEEPEST = 4;
const WORD = /[\p{L}\p{N}_]/u;

/** @param {string} text @returns {Tree[]} */
export function parse(text) {
  /** @type {Tree[]} */
  const found = [];
  let at = 0;
  for (const match of text.matchAll(BLOCK)) {
    const [whole, code] = match;
    const before = text.slice(at, match.index).replace(/\n$/, '');
    found.push(...spans(before), code === undefined ? list(whole) : { tag: 'pre', children: [{ tag: 'code', children: [code] }] });
    at = match.index + whole.length;
    if (code !== undefined && text[at] === '\n') at += 1;
  }
  return [...found, ...spans(text.slice(at))];
}

/** @param {string} text lines that are items @returns {Tree} */
function list(text) {
  const items = text.trimEnd().split('\n').map((line) => ITEM.exec(line));
  const children = items.map((item) => ({ tag: /** @type {const} */ ('li'), children: spans(item?.[2] ?? '') }));
  const number = items[0]?.[1];
  return number ? { tag: 'ol', attributes: { start: number }, children } : { tag: 'ul', children };
}

/** @param {string} text @param {number} [depth] @returns {Tree[]} */
function spans(text, depth = 0) {
  /** @type {Tree[]} */
  const found = [];
  let at = 0;
  const look = new RegExp(SPAN);
  for (let match = look.exec(text); match; match = look.exec(text)) {
    const made = span(match, text, depth);
    if (!made) {
      look.lastIndex = match.index + (match[5] ?? match[0][0]).length;
      continue;
    }
    if (match.index > at) found.push(text.slice(at, match.index));
    found.push(...made);
    at = look.lastIndex;
  }
  if (at < text.length) found.push(text.slice(at));
  return found;
}

/** What a match is; nothing where it only looks like it. @param {RegExpExecArray} match @param {string} text @param {number} depth @returns {Tree[] | undefined} */
function span({ 0: whole, 1: code, 2: address, 3: words, 4: target, 5: mark, 6: inside, index }, text, depth) {
  if (code) return [{ tag: 'code', children: [code] }];
  if (address) return link(address, [address]);
  if (words) return named(words, target);
  const isInWord = WORD.test(text[index - 1] ?? '') || WORD.test(text[index + whole.length] ?? '');
  const isPart = inside[0] === mark[0] || inside.endsWith(mark[0]); // of a longer row of them
  const isFine = !isInWord && !isPart && depth < DEEPEST;
  return isFine ? [{ tag: MARKS[mark], children: spans(inside, depth + 1) }] : undefined;
}

/** Words that lead somewhere, and where; not such as name another place. @param {string} words @param {string} target */
function named(words, target) {
  if (/:\/\/|www\./i.test(words)) return undefined;
  const made = link(target, [words]);
  return made && [...made, ` (${new URL(target).host})`];
}

/** @param {string} address @param {Tree[]} children @returns {Tree[] | undefined} */
function link(address, children) {
  try {
    return /^https?:$/.test(new URL(address).protocol) ? [{ tag: 'a', attributes: { href: address }, children }] : undefined;
  } catch {
    return undefined;
  }
}

/** What is read of a text, without its marks. @param {string} text */
export const read = (text) => words(parse(text));

/** @param {Tree[]} nodes @returns {string} */
const words = (nodes) => nodes.map((node) => (typeof node === 'string' ? node : (/^(li|pre)$/.test(node.tag) ? ' ' : '') + words(node.children))).join('');

/** @param {Tree} node @returns {Node | string} */
function render(node) {
  if (typeof node === 'string') return node;
  const safe = node.tag === 'a' && { target: '_blank', rel: 'noopener noreferrer nofollow' };
  return h(node.tag, { ...node.attributes, ...safe }, ...node.children.map(render));
}

/** What is shown of a text. @param {string} text */
export const rich = (text) => parse(text).map(render);
