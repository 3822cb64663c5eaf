/** The way in: the first run, and signing in by name and password or by the program's own link. */
import { clearErrors, fieldError, wireForm } from './forms.js';
import { onLanguage, t } from './i18n.js';
import { banner, byId, errorBanner, h } from './page.js';
import { checkPassword, checkUsername, WEAK } from './rules.js';
import { isGoodLink, onSession, redeem, refresh, setUp, signIn, whoIAm } from './session.js';

/** @typedef {import('./api.js').ApiError} ApiError */

const gate = byId('gate');
const button = h('button', { id: 'open-gate', type: 'button', class: 'small', 'aria-controls': 'gate', 'data-i18n': 'signin.button', hidden: true });
const setup = /** @type {HTMLFormElement} */ (byId('setup'));
const login = /** @type {HTMLFormElement} */ (byId('login'));
const setupFields = { username: input('setup-username'), password: input('setup-password') };
const loginFields = { username: input('login-username'), password: input('login-password') };

/** The setup link's token: only here, never stored. */
let token = '';
/** What is said above the form. @type {(() => HTMLElement) | undefined} */
let note;
/** Whether the form was asked for where the page can be used without it; a page that sends here does. */
let wanted = new URLSearchParams(location.search).has('to');
/** Whose session it was, to sign in again. */
let lastName = '';
/** What is shown: the id of a part, or nothing. */
let view = '';

/** @param {string} id */
function input(id) {
  return /** @type {HTMLInputElement} */ (byId(id));
}

export function wireSignIn() {
  byId('menu').before(button);
  wireForm(setup, {
    check: checkSetup,
    send: () => setUp(token, setupFields.username.value.trim(), setupFields.password.value),
    codes: WEAK,
    refused: linkRefused,
  });
  wireForm(login, {
    check: checkLogin,
    send: () => signIn(loginFields.username.value.trim(), loginFields.password.value),
    codes: { wrong_login: ['password', 'signin.wrong'] },
    refused: cookieRefused,
  });
  button.addEventListener('click', () => {
    wanted = view === '';
    note = undefined;
    render();
    if (wanted) focusView(true);
  });
  onSession(onWho);
  onLanguage(() => {
    if (note) showNote();
  });
}

/**
 * Do what a link of the program asks for, and learn who is signed in.
 * @param {{ setup: string, signin: string }} link
 */
export async function follow(link) {
  token = link.setup || token;
  note = undefined;
  if (link.setup && !(await isGoodLink(link.setup))) refuseLink();
  /** @type {any} */
  let failure;
  if (link.signin) await redeem(link.signin).catch((error) => (failure = error));
  if (failure && !cookieRefused(failure)) {
    note = () =>
      failure.code === 'invalid_link' ? banner('warn', t('signin.linkRefused')) : errorBanner(failure);
  }
  if (failure || !link.signin) await refresh();
}

/** @type {import('./session.js').SessionListener} */
function onWho(me, change) {
  const before = view;
  if (me?.authenticated) {
    entered(me.username ?? '');
  } else if (change === 'ended') {
    note = () => banner('warn', t('signin.ended'));
    loginFields.username.value = lastName;
  } else if (token && me && !me.setupNeeded) {
    note = () => banner('info', t('signin.alreadySetUp'));
  }
  if (me && !me.setupNeeded) token = '';
  render();
  // What had the focus is gone, or was on what isn't to be used now.
  if (view && (view !== before || change === 'ended')) focusView(before !== '');
  else if (!view && (before || change === 'left')) byId('main').focus();
}

/** @param {string} name */
function entered(name) {
  lastName = name;
  note = undefined;
  wanted = false;
  for (const form of [setup, login]) {
    form.reset();
    clearErrors(form);
  }
}

function render() {
  const me = whoIAm();
  const open = me?.access === 'open' || (me?.guests && !me.setupNeeded);
  const possible = !me || me.authenticated ? '' : !me.setupNeeded ? 'login' : token ? 'setup' : 'first-run';
  view = !open || wanted || note || possible === 'setup' ? possible : '';
  gate.hidden = !view;
  for (const part of ['first-run', 'setup', 'login']) byId(part).hidden = part !== view;
  button.hidden = !open || !possible;
  button.setAttribute('aria-expanded', String(!gate.hidden));
  byId('main').classList.toggle('narrow', view !== '' && !open);
  showNote();
}

function showNote() {
  byId('gate-note').replaceChildren(...(note ? [note()] : []));
}

/**
 * The first field that is empty; an explanation is read from its title on, though not where it's
 * what the page began with.
 * @param {boolean} later
 */
function focusView(later) {
  const title = later ? byId('first-run-title') : undefined;
  const empty = [...byId(view).querySelectorAll('input')].find((field) => !field.value);
  (view === 'first-run' ? title : empty)?.focus();
}

function checkSetup() {
  checkUsername(setupFields.username);
  checkPassword(setupFields.password);
}

function checkLogin() {
  const { username, password } = loginFields;
  fieldError(username, username.value.trim() ? undefined : () => t('signin.needUsername'));
  fieldError(password, password.value ? undefined : () => t('signin.needPassword'));
}

/** What leads on stands below. */
function refuseLink() {
  token = '';
  note = () => banner('warn', t('setup.linkRefused'));
}

/** @param {ApiError} error */
function linkRefused(error) {
  if (error.code === 'invalid_link') {
    refuseLink();
  } else if (error.code !== 'already_set_up') {
    return cookieRefused(error);
  }
  void refresh();
  return true;
}

/** @param {ApiError} error */
function cookieRefused(error) {
  if (error.code !== 'cookie_refused') return false;
  note = () => banner('error', t('signin.noCookie'));
  render();
  return true;
}
