/** Forms: a fault is said at its field, a form that was sent waits, a refused one says how long. */
import { ApiError } from './api.js';
import { formatDuration, onLanguage, t } from './i18n.js';
import { banner, errorBanner, h } from './page.js';

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Field */
/**
 * @typedef {object} FormActs
 * @property {() => void} [check] marks wrong fields by `fieldError`; then nothing is sent
 * @property {() => Promise<unknown>} send
 * @property {Record<string, [string, string]>} [codes] an error's code: the field it is about, and its text's key
 * @property {(error: ApiError) => boolean} [refused] whether an error is told elsewhere
 */

/** What stands at a field, and its language where it isn't the page's. @type {Map<Field, { text: () => string, lang?: string }>} */
const faults = new Map();

/**
 * Give a form its behaviour. Its `.form-error` shows what concerns no single field.
 * @param {HTMLFormElement} form
 * @param {FormActs} acts
 */
export function wireForm(form, { check = () => {}, send, codes = {}, refused = () => false }) {
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (submitButton(form).hasAttribute('aria-disabled')) return;
    clearErrors(form);
    check();
    if (focusFirstWrong(form)) return;
    busy(form, true);
    try {
      await send();
    } catch (error) {
      if (!(error instanceof ApiError && refused(error))) await explain(form, error, codes);
    } finally {
      busy(form, false);
    }
  });
}

/**
 * @param {Field} field its message stands in `#<id>-error`
 * @param {(() => string) | undefined} text none: all is well
 * @param {string} [lang]
 */
export function fieldError(field, text, lang) {
  if (text) faults.set(field, { text, lang });
  else faults.delete(field);
  renderFault(field);
}

/** @param {HTMLFormElement} form */
export function clearErrors(form) {
  errorPlace(form).replaceChildren();
  for (const field of faults.keys()) {
    if (field.form === form) fieldError(field, undefined);
  }
}

/** @param {Field} field */
function renderFault(field) {
  const fault = faults.get(field);
  const place = document.getElementById(`${field.id}-error`);
  if (place) {
    place.textContent = fault?.text() ?? '';
    place.lang = fault?.lang ?? '';
    if (!place.lang) place.removeAttribute('lang');
  }
  if (fault) field.setAttribute('aria-invalid', 'true');
  else field.removeAttribute('aria-invalid');
}

/**
 * @param {HTMLFormElement} form
 * @returns {boolean} whether there is a wrong field
 */
function focusFirstWrong(form) {
  const wrong = /** @type {Field | null} */ (form.querySelector('[aria-invalid="true"]'));
  wrong?.focus();
  if (wrong instanceof HTMLInputElement) wrong.select();
  return wrong !== null;
}

/**
 * @param {HTMLFormElement} form
 * @param {unknown} error
 * @param {Record<string, [string, string]>} codes
 */
async function explain(form, error, codes) {
  if (error instanceof ApiError && error.status === 429 && error.retryAfter) {
    await countDown(form, error.retryAfter);
  } else if (!(error instanceof ApiError && tellFields(form, error, codes))) {
    errorPlace(form).replaceChildren(errorBanner(error));
  }
}

/**
 * Put what the server says of fields to these fields; in its own words (English) where we have none.
 * @param {HTMLFormElement} form
 * @param {ApiError} error
 * @param {Record<string, [string, string]>} codes
 * @returns {boolean} whether nothing is left to be said
 */
function tellFields(form, { code, errors }, codes) {
  /** @type {[string, () => string, string | undefined][]} */
  const told = Object.hasOwn(codes, code)
    ? [[codes[code][0], () => t(codes[code][1]), undefined]]
    : errors.map(({ field, message }) => [field, () => message, 'en']);
  const found = told.map(([name]) => fieldOf(form, name));
  if (!told.length || found.includes(undefined)) return false;
  told.forEach(([, text, lang], at) => fieldError(/** @type {Field} */ (found[at]), text, lang));
  return focusFirstWrong(form);
}

/**
 * A field by its name, if a message can stand at it.
 * @param {HTMLFormElement} form
 * @param {string} name
 */
function fieldOf(form, name) {
  const field = /** @type {Field | null} */ (form.elements.namedItem(name));
  return field && document.getElementById(`${field.id}-error`) ? field : undefined;
}

/**
 * Show how long it takes until the form may be sent again; ends when it may. Said aloud at the
 * start and the end only.
 * @param {HTMLFormElement} form
 * @param {number} seconds
 */
async function countDown(form, seconds) {
  const until = Date.now() + seconds * 1000;
  const left = () => Math.ceil((until - Date.now()) / 1000);
  /** @type {string | undefined} */
  let role = 'alert';
  while (left() > 0) {
    const text = t('form.wait', { time: formatDuration(left()) });
    errorPlace(form).replaceChildren(h('p', { class: 'banner warn', role }, text));
    role = undefined;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  errorPlace(form).replaceChildren(banner('info', t('form.waitOver')));
}

/** @param {HTMLFormElement} form */
const errorPlace = (form) => /** @type {HTMLElement} */ (form.querySelector('.form-error'));

/** @param {HTMLFormElement} form */
const submitButton = (form) => /** @type {HTMLElement} */ (form.querySelector('button:not([type="button"])'));

/**
 * A button that is merely marked keeps the focus.
 * @param {HTMLFormElement} form
 * @param {boolean} value
 */
function busy(form, value) {
  if (value) submitButton(form).setAttribute('aria-disabled', 'true');
  else submitButton(form).removeAttribute('aria-disabled');
}

onLanguage(() => [...faults.keys()].forEach(renderFault));
