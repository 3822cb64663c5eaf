/** Password fields: the button that shows what was typed, and the rule for a new one. */
import { onLanguage, t } from './i18n.js';
import { announce, byId, h } from './page.js';

const SHORTEST = 8; // characters, as the server counts them

/**
 * What is wrong with a new password, as the key of a text; undefined when nothing is.
 * @param {string} password
 */
export function passwordFault(password) {
  return [...password].length < SHORTEST ? 'password.short' : undefined;
}

/** Wire each `<button data-reveal="field's id">` of the page. */
export function wireReveals() {
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (
    document.querySelectorAll('[data-reveal]')
  )) {
    wireReveal(button, byId(button.dataset.reveal ?? ''));
  }
}

/**
 * @param {HTMLButtonElement} button
 * @param {HTMLInputElement} field
 */
function wireReveal(button, field) {
  const isShown = () => field.type === 'text';
  const render = () => {
    button.textContent = t(isShown() ? 'password.hide' : 'password.show');
    button.setAttribute('aria-label', t(isShown() ? 'password.hideLabel' : 'password.showLabel'));
  };
  /** @param {boolean} shown */
  const set = (shown) => {
    field.type = shown ? 'text' : 'password';
    render();
  };
  button.addEventListener('click', () => {
    set(!isShown());
    announce(t(isShown() ? 'password.isShown' : 'password.isHidden'));
  });
  // A browser remembers what it sees in a text field.
  field.form?.addEventListener('submit', () => set(false));
  field.form?.addEventListener('reset', () => set(false));
  onLanguage(render);
}

/** @param {string} id @param {string} name @param {string} autocomplete @param {string} [hint] its id */
export function passwordInput(id, name, autocomplete, hint = '') {
  const told = `${id}-error ${hint}`.trim();
  return h('input', { id, name, type: 'password', autocomplete, autocapitalize: 'none', spellcheck: 'false', 'aria-required': 'true', 'aria-describedby': told });
}

/** A password's field with its label, button, fault and hint. @param {HTMLInputElement} input @param {string} label @param {string} [hint] */
export function passwordField(input, label, hint) {
  return h(
    'div',
    { class: 'field' },
    h('label', { for: input.id, 'data-i18n': label }),
    h('div', { class: 'revealable' }, input, h('button', { type: 'button', 'data-reveal': input.id })),
    h('p', { id: `${input.id}-error`, class: 'field-error' }),
    hint ? h('p', { id: `${input.id}-hint`, class: 'hint', 'data-i18n': hint }) : undefined,
  );
}
