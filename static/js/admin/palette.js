/** The command palette: sections, actions and settings by their names. It is loaded when it is asked for. */
import { ROOT } from '../api.js';
import { fold, t } from '../i18n.js';
import { byId, h, isComposing } from '../page.js';
import { showSetting } from './settings.js';
import { labels } from './texts.js';

const SHOWN = 50;

/** @typedef {{ text: string, kind: string, also?: string, act: () => void }} Command `also` is found too */

/**
 * The commands that have every word, those first that begin so.
 * @param {Command[]} all
 * @param {string} text
 */
export function matching(all, text) {
  const words = fold(text).split(/\s+/).filter(Boolean);
  const found = all.filter((command) => words.every((word) => fold(`${command.text} ${command.kind} ${command.also ?? ''}`).includes(word)));
  const begins = (/** @type {Command} */ command) => words.length > 0 && fold(command.text).startsWith(words[0]);
  return [...found.filter(begins), ...found.filter((command) => !begins(command))].slice(0, SHOWN);
}

/** @param {string} path */
const download = (path) => h('a', { href: new URL(path, ROOT).href, download: true }).click();

/** Each choice of a switch of the header. @param {string} what @param {string} title @returns {Command[]} */
function choices(what, title) {
  const select = /** @type {HTMLSelectElement} */ (document.querySelector(`[data-${what}-switch]`));
  return [...select.options].map(({ value, text }) => ({
    text: `${title}: ${text}`,
    kind: t('admin.palette.action'),
    act() {
      select.value = value;
      select.dispatchEvent(new Event('change', { bubbles: true }));
    },
  }));
}

/** @param {{ id: string, title: string }[]} sections @returns {Command[]} */
function commands(sections) {
  const go = (/** @type {string} */ id) => (location.hash = id);
  const action = (/** @type {string} */ text, /** @type {() => void} */ act) => ({ text, kind: t('admin.palette.action'), act });
  return [
    ...sections.map(({ id, title }) => ({ text: t(title), kind: t('admin.palette.section'), also: id, act: () => void go(id) })),
    action(t('admin.backup.button'), () => download('api/backup')),
    action(t('admin.palette.export', { format: 'CSV' }), () => download('api/logs/export?format=csv')),
    action(t('admin.palette.export', { format: 'NDJSON' }), () => download('api/logs/export?format=ndjson')),
    ...choices('theme', t('theme.label')),
    ...choices('language', t('page.language')),
    action(t('password.change'), () => byId('change-password').click()),
    action(t('signin.out'), () => byId('sign-out').click()),
    ...Object.entries(labels.found.peek()).map(([key, text]) => ({
      text,
      kind: t('admin.palette.setting'),
      also: key,
      act() {
        go('settings');
        showSetting(key);
      },
    })),
  ];
}

/** @param {{ id: string, title: string }[]} sections */
export async function openPalette(sections) {
  if (document.querySelector('dialog[open]')) return;
  const input = h('input', {
    id: 'palette-text',
    type: 'text',
    role: 'combobox',
    'aria-label': t('admin.palette.title'),
    'aria-expanded': 'true',
    'aria-controls': 'palette-list',
    'aria-autocomplete': 'list',
    placeholder: t('admin.palette.hint'),
    autocomplete: 'off',
    autocapitalize: 'none',
    spellcheck: 'false',
  });
  const list = h('ul', { id: 'palette-list', class: 'plain', role: 'listbox', 'aria-label': t('admin.palette.title') });
  const none = h('p', { class: 'empty', role: 'status' });
  const dialog = h('dialog', { class: 'palette', 'aria-label': t('admin.palette.title') }, input, list, none);
  let all = commands(sections);
  /** @type {Command[]} */
  let found = [];
  let at = 0;

  function mark(/** @type {number} */ next) {
    at = Math.min(Math.max(next, 0), found.length - 1);
    for (const [number, item] of [...list.children].entries()) item.setAttribute('aria-selected', String(number === at));
    if (found.length) input.setAttribute('aria-activedescendant', `palette-${at}`);
    else input.removeAttribute('aria-activedescendant');
    list.children[at]?.scrollIntoView({ block: 'nearest' });
  }

  function draw() {
    found = matching(all, input.value);
    list.replaceChildren(
      ...found.map(({ text, kind }, number) => h('li', { id: `palette-${number}`, role: 'option' }, h('span', {}, text), h('span', { class: 'hint' }, kind))),
    );
    list.hidden = !found.length;
    none.textContent = found.length ? '' : t('admin.palette.none');
    none.hidden = found.length > 0;
    mark(0);
  }

  function choose() {
    const command = found[at];
    if (!command) return;
    dialog.close();
    command.act();
  }

  input.addEventListener('input', draw);
  input.addEventListener('keydown', (event) => {
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 8, PageUp: at - 8 };
    if (isComposing(event)) return;
    if (event.key in steps) mark(steps[event.key]);
    else if (event.key === 'Enter') choose();
    else return;
    event.preventDefault();
  });
  list.addEventListener('click', ({ target }) => {
    const item = target instanceof Element ? target.closest('li') : null;
    if (!item) return;
    mark([...list.children].indexOf(item));
    choose();
  });
  dialog.addEventListener('click', ({ target }) => target === dialog && dialog.close()); // beside it
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  draw();
  dialog.showModal();
  await labels.load();
  all = commands(sections);
  if (dialog.open) draw();
}
