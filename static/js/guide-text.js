/**
 * Markdown as the guides use it, read into plain data: headings, paragraphs, lists, tables, fenced code, and
 * in a line code, bold, emphasis, links, pictures, `<br>` and escapes. Everything else stays text: no
 * HTML passes.
 *
 * @typedef {{ kind: 'text', text: string } | { kind: 'code', text: string }} Plain
 * @typedef {{ kind: 'strong' | 'em', parts: Inline[] }} Marked
 * @typedef {{ kind: 'link', parts: Inline[], target: string }} Link
 * @typedef {{ kind: 'image', text: string, target: string }} Picture
 * @typedef {Plain | Marked | Link | Picture | { kind: 'break' }} Inline
 * @typedef {{ kind: 'heading', level: number, id: string, parts: Inline[] }} Heading
 * @typedef {{ kind: 'list', ordered: boolean, items: Block[][] }} List
 * @typedef {{ kind: 'table', head: Inline[][], rows: Inline[][][] }} Table
 * @typedef {Heading | List | Table | { kind: 'paragraph', parts: Inline[] } | { kind: 'code', language: string, text: string }} Block
 */

const FENCE = /^```(\w*)\s*$/;
const HEADING = /^(#{1,6}) +(.+?)\s*$/;
const ITEM = /^(?:[-*]|\d+\.) +/;
const RULE_OF_TABLE = /^\|(?: *:?-+:? *\|)+\s*$/;
const COMMENT = /^<!--.*-->\s*$/;
const INLINE = new RegExp(
  [
    '(?<ticks>`+)(?<code>.+?)\\k<ticks>(?!`)',
    '\\*\\*(?<strong>.+?)\\*\\*',
    '\\*(?<em>[^*\\s](?:[^*]*[^*\\s])?)\\*',
    '!\\[(?<alt>[^\\]]*)\\]\\((?<image>[^)\\s]+)\\)',
    '\\[(?<label>(?:`[^`]*`|[^\\]`])+)\\]\\((?<link>[^)\\s]+)\\)',
    '(?<br><br>)',
    '\\\\(?<escaped>[\\\\`*_{}\\[\\]()#+.!|<>-])',
  ].join('|'),
  'g',
);

/**
 * A page's blocks, in order.
 * @param {string} text
 * @returns {Block[]}
 */
export function parse(text) {
  const lines = text.replaceAll('\r\n', '\n').split('\n');
  /** @type {Block[]} */
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    const [block, next] = read(lines, at);
    if (block) blocks.push(block);
    at = next;
  }
  return blocks;
}

/**
 * The block that begins at a line, if one does, and the line behind it.
 * @param {string[]} lines
 * @param {number} at
 * @returns {[Block | undefined, number]}
 */
function read(lines, at) {
  const line = lines[at];
  if (!line.trim() || COMMENT.test(line)) return [undefined, at + 1];
  const fence = FENCE.exec(line);
  if (fence) {
    let end = at + 1;
    while (end < lines.length && !lines[end].startsWith('```')) end++;
    return [{ kind: 'code', language: fence[1], text: lines.slice(at + 1, end).join('\n') }, end + 1];
  }
  const heading = HEADING.exec(line);
  if (heading) {
    const [, marks, title] = heading;
    return [{ kind: 'heading', level: marks.length, id: slug(title), parts: inline(title) }, at + 1];
  }
  if (isTable(lines, at)) return readTable(lines, at);
  if (ITEM.test(line)) return readList(lines, at);
  let end = at + 1;
  while (end < lines.length && !endsParagraph(lines, end)) end++;
  return [{ kind: 'paragraph', parts: inline(lines.slice(at, end).join('\n')) }, end];
}

/**
 * @param {string[]} lines
 * @param {number} at
 */
function endsParagraph(lines, at) {
  const line = lines[at];
  const begins = [FENCE, HEADING, ITEM, COMMENT].some((form) => form.test(line));
  return !line.trim() || begins || isTable(lines, at);
}

/**
 * @param {string[]} lines
 * @param {number} at
 */
const isTable = (lines, at) => lines[at].startsWith('|') && RULE_OF_TABLE.test(lines[at + 1] ?? '');

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {[Table, number]}
 */
function readTable(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end].startsWith('|')) end++;
  const [head, ...rows] = [lines[at], ...lines.slice(at + 2, end)].map(cells);
  return [{ kind: 'table', head, rows }, end];
}

/** A row's cells; `\|` is a bar inside of one, also in code. @param {string} row */
const cells = (row) =>
  row
    .trim()
    .replaceAll('\\|', '\0')
    .replace(/^\||\|$/g, '')
    .split('|')
    .map((cell) => inline(cell.trim().replaceAll('\0', '|')));

/**
 * A list and what is indented below its items.
 * @param {string[]} lines
 * @param {number} at
 * @returns {[List, number]}
 */
function readList(lines, at) {
  const ordered = /^\d/.test(lines[at]);
  /** @type {string[][]} */
  const items = [];
  let end = at;
  for (; end < lines.length; end++) {
    const line = lines[end];
    if (ITEM.test(line)) items.push([line.replace(ITEM, '')]);
    else if (/^ {2}/.test(line)) items[items.length - 1].push(line.replace(/^ {2,3}/, ''));
    else if (line.trim() || !/^(?: {2}|[-*] |\d+\. )/.test(lines[end + 1] ?? '')) break;
    else items[items.length - 1].push('');
  }
  return [{ kind: 'list', ordered, items: items.map((item) => parse(item.join('\n'))) }, end];
}

/**
 * What stands in a line.
 * @param {string} text
 * @returns {Inline[]}
 */
export function inline(text) {
  /** @type {Inline[]} */
  const parts = [];
  let done = 0;
  for (const found of text.matchAll(INLINE)) {
    if (found.index > done) parts.push({ kind: 'text', text: text.slice(done, found.index) });
    done = found.index + found[0].length;
    parts.push(marked(found.groups ?? {}));
  }
  if (done < text.length) parts.push({ kind: 'text', text: text.slice(done) });
  return parts;
}

/**
 * @param {Record<string, string | undefined>} found
 * @returns {Inline}
 */
function marked({ code, strong, em, alt = '', image, label = '', link, br, escaped = '' }) {
  if (code !== undefined) return { kind: 'code', text: code };
  if (strong !== undefined) return { kind: 'strong', parts: inline(strong) };
  if (em !== undefined) return { kind: 'em', parts: inline(em) };
  if (image !== undefined) return { kind: 'image', text: alt, target: image };
  if (link !== undefined) return { kind: 'link', parts: inline(label), target: link };
  return br ? { kind: 'break' } : { kind: 'text', text: escaped };
}

/** A title's name in addresses, as code hosts make it. @param {string} title */
export const slug = (title) =>
  title
    .toLowerCase()
    .replace(/[^\p{L}\p{N}_\- ]/gu, '')
    .trim()
    .replaceAll(' ', '-');
