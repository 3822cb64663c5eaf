/** The menu in the header of a page: the language, the theme, and room for whoever is signed in. */
import { onLanguage, t } from './i18n.js';
import { h } from './page.js';

const THEMES = { auto: 'theme.auto', light: 'theme.light', dark: 'theme.dark' };

/** What `account.js` fills. */
export const account = h('div', { id: 'account', class: 'stack', hidden: true });
const label = h('span');
const summary = h('summary', { class: 'button small' }, label);
const themes = Object.entries(THEMES).map(([value, key]) => h('option', { value, 'data-i18n': key }));
const menu = h(
  'details',
  { id: 'menu', class: 'page-menu' },
  summary,
  h(
    'div',
    { class: 'card stack' },
    account,
    field('page.language', h('select', { id: 'menu-language', 'data-language-switch': true })),
    field('theme.label', h('select', { id: 'menu-theme', 'data-theme-switch': true }, ...themes)),
  ),
);
let name = '';

/** @param {string} key @param {HTMLSelectElement} select */
function field(key, select) {
  return h('div', { class: 'field' }, h('label', { for: select.id, 'data-i18n': key }), select);
}

/** Whose menu it is. @param {string} who empty: nobody's */
export function nameMenu(who) {
  name = who;
  label.textContent = name || t('page.menu');
}

/** Close it, and give the focus to its button. */
export function closeMenu() {
  menu.open = false;
  summary.focus();
}

document.querySelector('.page-header')?.append(menu);
menu.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && menu.open) closeMenu();
});
// A choice of a select on a phone has no target of its own: the focus alone would close the menu.
for (const kind of ['pointerdown', 'focusin']) {
  document.addEventListener(kind, ({ target }) => {
    if (target instanceof Element && target !== document.body && !menu.contains(target)) menu.open = false;
  });
}
onLanguage(() => nameMenu(name));
