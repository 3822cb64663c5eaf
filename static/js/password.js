/** Password fields: the button that shows what was typed. */
import { onLanguage, t } from './i18n.js';
import { announce, byId } from './page.js';

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
