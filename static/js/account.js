/**
 * Whoever is signed in: the name in the header's menu, signing out, changing the password. Loaded before
 * the sign-in: while its dialog is open, nothing else takes the focus.
 */
import { clearErrors, fieldError, wireForm } from './forms.js';
import { account, closeMenu, nameMenu } from './header.js';
import { onLanguage, t } from './i18n.js';
import { closable, notice } from './notices.js';
import { announce, errorBanner, h } from './page.js';
import { wireReveals } from './password.js';
import { checkPassword, WEAK } from './rules.js';
import { changePassword, mayListen, onSession, saysEnded, signOut, whoIAm } from './session.js';

/** Roles as texts. @type {Record<string, string>} */
const ROLES = { guest: 'role.guest', user: 'role.user', admin: 'role.admin' };

const who = h('p', { id: 'who', class: 'hint' });
const change = h('button', { id: 'change-password', type: 'button', class: 'small', 'data-i18n': 'password.change' });
const out = h('button', { id: 'sign-out', type: 'button', class: 'small', 'data-i18n': 'signin.out' });
account.append(who, change, out, h('hr'));

const name = h('input', { autocomplete: 'username', 'data-i18n-attr': 'aria-label:signin.username', readonly: true, hidden: true });
const current = passwordInput('current-password', 'current', 'current-password');
const chosen = passwordInput('new-password', 'password', 'new-password', 'new-password-hint');
const cancel = h('button', { type: 'button', 'data-i18n': 'page.cancel' });
const form = h(
  'form',
  { id: 'password-form', class: 'stack', method: 'post', novalidate: true },
  h('h2', { id: 'password-title', 'data-i18n': 'password.change' }),
  name,
  passwordField(current, 'password.current'),
  passwordField(chosen, 'password.new', 'password.hint'),
  h('p', { class: 'hint', 'data-i18n': 'password.others' }),
  h('div', { class: 'form-error' }),
  h('div', { class: 'actions' }, cancel, h('button', { class: 'primary', 'data-i18n': 'password.save' })),
);
const dialog = h('dialog', { id: 'password-dialog', 'aria-labelledby': 'password-title' }, form);
document.body.append(dialog);

wireReveals();
wireForm(form, {
  check: checkPasswords,
  send: savePassword,
  codes: { wrong_login: ['current', 'password.wrong'], ...WEAK },
  refused: saysEnded,
});
change.addEventListener('click', () => {
  notice('account');
  closeMenu();
  dialog.showModal();
});
cancel.addEventListener('click', () => dialog.close());
dialog.addEventListener('close', () => {
  form.reset();
  clearErrors(form);
});
out.addEventListener('click', leave);
onSession(onWho);
onLanguage(render);

/** @type {import('./session.js').SessionListener} */
function onWho(me, how) {
  render();
  document.getElementById('nav-console')?.toggleAttribute('hidden', !mayListen());
  if (!me?.authenticated) {
    dialog.close();
    notice('account');
  }
  if (how === 'entered' && me?.authenticated) announce(whoText());
  if (how === 'left') announce(t('signin.isOut'));
}

function render() {
  const me = whoIAm();
  account.hidden = !me?.authenticated;
  change.hidden = !me?.username;
  out.hidden = Boolean(me?.inWindow); // the program's own window has no other way in
  who.textContent = whoText();
  name.value = me?.username ?? '';
  nameMenu(me?.username ?? '');
  document.querySelector('#nav-admin:not([aria-current])')?.toggleAttribute('hidden', me?.role !== 'admin');
}

function whoText() {
  const me = whoIAm();
  if (!me?.authenticated) return '';
  const role = Object.hasOwn(ROLES, me.role) ? t(ROLES[me.role]) : me.role;
  return me.username ? t('signin.as', { name: me.username, role }) : t('signin.yes', { role });
}

async function leave() {
  closeMenu();
  try {
    await signOut();
  } catch (error) {
    notice('account', () => errorBanner(error));
  }
}

function checkPasswords() {
  fieldError(current, current.value ? undefined : () => t('password.needCurrent'));
  checkPassword(chosen);
}

async function savePassword() {
  await changePassword(current.value, chosen.value);
  dialog.close();
  notice('account', changedNotice);
}

function changedNotice() {
  const put = () => {
    notice('account');
    closeMenu(); // the focus is where it was
  };
  return closable('ok', t('password.changed'), put, t('password.changedBody'));
}

/** @param {string} id @param {string} name @param {string} autocomplete @param {string} [hint] its id */
function passwordInput(id, name, autocomplete, hint = '') {
  const told = `${id}-error ${hint}`.trim();
  return h('input', { id, name, type: 'password', autocomplete, autocapitalize: 'none', spellcheck: 'false', 'aria-required': 'true', 'aria-describedby': told });
}

/** A password's field with its label, button, fault and hint. @param {HTMLInputElement} input @param {string} label @param {string} [hint] */
function passwordField(input, label, hint) {
  return h(
    'div',
    { class: 'field' },
    h('label', { for: input.id, 'data-i18n': label }),
    h('div', { class: 'revealable' }, input, h('button', { type: 'button', 'data-reveal': input.id })),
    h('p', { id: `${input.id}-error`, class: 'field-error' }),
    hint ? h('p', { id: `${input.id}-hint`, class: 'hint', 'data-i18n': hint }) : undefined,
  );
}
