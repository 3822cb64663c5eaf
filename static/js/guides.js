/** The guides: `static/docs/*.md` as pages, in the reader's language, without the internet. */
import './account.js';
import { ROOT } from './api.js';
import { parse } from './guide-text.js';
import { language, languages, onLanguage, setLanguage, t } from './i18n.js';
import { banner, button, byId, copyFrom, h, startPage } from './page.js';
import { refresh } from './session.js';

/**
 * @typedef {import('./guide-text.js').Block} Block
 * @typedef {import('./guide-text.js').Inline} Inline
 */

const FILES = new URL('../docs/', import.meta.url);
/** The guide that this page shows: the list of them where its address names none. */
const NAME = decodeURIComponent(/\/docs\/([^/]+)\/?$/.exec(location.pathname)?.[1] ?? 'README');
const contents = /** @type {HTMLDetailsElement} */ (byId('contents'));
const wide = matchMedia('(min-width: 64rem)');

/** Counts what was asked for, so that a late answer in another language is passed over. */
let asked = 0;

async function show() {
  const mine = ++asked;
  try {
    const text = await read(language());
    if (mine === asked) draw(parse(text));
  } catch {
    if (mine === asked) drawFailure();
  }
}

/**
 * A guide's text in a language, or in English where that lacks it.
 * @param {string} tag
 * @returns {Promise<string>}
 */
async function read(tag) {
  const answer = await fetch(new URL(`${NAME}${tag === 'en' ? '' : `.${tag}`}.md`, FILES));
  if (answer.status === 404 && tag !== 'en') return read('en');
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.text();
}

/** @param {Block[]} blocks */
function draw(blocks) {
  const guide = byId('guide');
  guide.replaceChildren(...blocks.map(drawBlock));
  guide.setAttribute('aria-busy', 'false');
  document.title = `${guide.querySelector('h1')?.textContent ?? t('nav.guides')} – rtapp`;
  const titles = [...guide.querySelectorAll('h2')];
  const links = titles.map((title) => h('a', { href: `#${title.id}` }, title.textContent ?? ''));
  byId('titles').replaceChildren(...links.map((link) => h('li', {}, link)));
  contents.hidden = titles.length < 3;
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

function drawFailure() {
  byId('guide').setAttribute('aria-busy', 'false');
  byId('guide').replaceChildren(banner('error', t('guides.failed'), button(t('page.again'), show)));
  contents.hidden = true;
}

/**
 * @param {Block} block
 * @returns {HTMLElement}
 */
function drawBlock(block) {
  if (block.kind === 'heading') {
    const tag = /** @type {'h1' | 'h2' | 'h3'} */ (`h${Math.min(block.level, 3)}`);
    return h(tag, { id: block.id, tabindex: '-1' }, ...block.parts.map(drawInline));
  }
  if (block.kind === 'paragraph') return h('p', {}, ...block.parts.map(drawInline));
  if (block.kind === 'list') return h(block.ordered ? 'ol' : 'ul', {}, ...block.items.map(drawItem));
  if (block.kind === 'code') return drawCode(block.text);
  const head = block.head.map((cell) => h('th', { scope: 'col' }, ...cell.map(drawInline)));
  const rows = block.rows.map((row) => h('tr', {}, ...row.map(drawCell)));
  const titled = block.head.some((cell) => cell.length);
  return h(
    'div',
    { class: head.length > 2 ? 'table wide' : 'table', tabindex: '0' }, // a narrow screen moves it sideways, by keys too
    h('table', {}, titled ? h('thead', {}, h('tr', {}, ...head)) : undefined, h('tbody', {}, ...rows)),
  );
}

/** @param {Inline[]} cell */
const drawCell = (cell) => h('td', {}, ...cell.map(drawInline));

/** An item of one paragraph is a line. @param {Block[]} blocks */
function drawItem(blocks) {
  const [first, ...rest] = blocks;
  const line = first?.kind === 'paragraph' ? first.parts.map(drawInline) : blocks.slice(0, 1).map(drawBlock);
  return h('li', {}, ...line, ...rest.map(drawBlock));
}

/** @param {string} text */
function drawCode(text) {
  const code = h('code', {}, text);
  const button = h('button', { type: 'button', class: 'quiet small', 'data-i18n': 'copy.button' });
  button.textContent = t('copy.button');
  button.addEventListener('click', () => copyFrom(button, code));
  return h('div', { class: 'code' }, h('pre', { tabindex: '0' }, code), button);
}

/**
 * @param {Inline} part
 * @returns {Node | string}
 */
function drawInline(part) {
  if (part.kind === 'text') return part.text;
  if (part.kind === 'break') return h('br');
  if (part.kind === 'code') return h('code', {}, part.text);
  if (part.kind === 'image') return h('img', { src: new URL(part.target, FILES).href, alt: part.text });
  const parts = part.parts.map(drawInline);
  return part.kind === 'link' ? drawLink(part.target, parts) : h(part.kind, {}, ...parts);
}

/**
 * A link as files have it, made one between pages: `operator.tr.md#turn` is `docs/operator#turn` in Turkish.
 * @param {string} target
 * @param {(Node | string)[]} parts
 */
function drawLink(target, parts) {
  const page = /^(?:\.\.\/)*([\w-]+?)(?:\.(\w\w))?\.md(#.*)?$/.exec(target);
  if (!page) return h('a', { href: target.startsWith('#') ? target : new URL(target, FILES).href }, ...parts);
  const [, name, other = 'en', anchor = ''] = page;
  const top = target.startsWith('..') ? '' : 'docs'; // of the project, whose page is the start page
  const path = name === 'README' ? top : `docs/${name}`;
  const link = h('a', { href: new URL(path + anchor, ROOT).href }, ...parts);
  if (other !== language() && languages().includes(other)) {
    link.lang = other;
    link.addEventListener('click', (event) => {
      event.preventDefault();
      setLanguage(other).catch(drawFailure);
    });
  }
  return link;
}

const unfold = () => {
  contents.open = wide.matches;
};

await startPage();
void refresh();
unfold();
wide.addEventListener('change', unfold);
byId('titles').addEventListener('click', unfold); // on a phone it gives way to what was chosen
await show();
onLanguage(show);
