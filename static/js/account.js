/** Whoever is signed in: the name in the header, signing out, changing the password. */
import { clearErrors, fieldError, wireForm } from './forms.js';
import { onLanguage, t } from './i18n.js';
import { notice } from './notices.js';
import { announce, banner, byId, errorBanner, h } from './page.js';
import { passwordFault } from './password.js';
import { changePassword, onSession, saysEnded, signOut, whoIAm } from './session.js';

/** Roles as texts. @type {Record<string, string>} */
const ROLES = { guest: 'role.guest', user: 'role.user', admin: 'role.admin' };

const dialog = /** @type {HTMLDialogElement} */ (byId('password-dialog'));
const form = /** @type {HTMLFormElement} */ (byId('password-form'));
const current = /** @type {HTMLInputElement} */ (byId('current-password'));
const chosen = /** @type {HTMLInputElement} */ (byId('new-password'));

export function wireAccount() {
  wireForm(form, {
    check: checkPasswords,
    send: savePassword,
    codes: { wrong_login: ['current', 'password.wrong'], weak_password: ['password', 'password.weak'] },
    refused: saysEnded,
  });
  byId('change-password').addEventListener('click', () => {
    notice('account');
    dialog.showModal();
  });
  byId('cancel-password').addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => {
    form.reset();
    clearErrors(form);
  });
  byId('sign-out').addEventListener('click', leave);
  onSession(onWho);
  onLanguage(render);
}

/** @type {import('./session.js').SessionListener} */
function onWho(me, change) {
  render();
  if (!me?.authenticated) {
    dialog.close();
    notice('account');
  }
  if (change === 'entered' && me?.authenticated) announce(whoText());
  if (change === 'left') announce(t('signin.isOut'));
}

function render() {
  const me = whoIAm();
  byId('account').hidden = !me?.authenticated;
  byId('change-password').hidden = !me?.username;
  byId('sign-out').hidden = Boolean(me?.inWindow); // the program's own window has no other way in
  byId('who').textContent = whoText();
  byId('password-username').setAttribute('value', me?.username ?? '');
}

function whoText() {
  const me = whoIAm();
  if (!me?.authenticated) return '';
  const role = Object.hasOwn(ROLES, me.role) ? t(ROLES[me.role]) : me.role;
  return me.username ? t('signin.as', { name: me.username, role }) : t('signin.yes', { role });
}

async function leave() {
  try {
    await signOut();
  } catch (error) {
    notice('account', () => errorBanner(error));
  }
}

function checkPasswords() {
  fieldError(current, current.value ? undefined : () => t('password.needCurrent'));
  const fault = passwordFault(chosen.value);
  fieldError(chosen, fault ? () => t(fault) : undefined);
}

async function savePassword() {
  await changePassword(current.value, chosen.value);
  dialog.close();
  notice('account', changedNotice);
}

function changedNotice() {
  const close = h('button', { type: 'button', class: 'small' }, t('notice.close'));
  close.addEventListener('click', () => {
    notice('account');
    byId('change-password').focus();
  });
  return banner('ok', t('password.changed'), h('p', { class: 'body' }, t('password.changedBody')), close);
}
