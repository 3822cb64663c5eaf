/** Who may do what: users, API tokens, and one's own sessions. */
import { api } from '../api.js';
import { deviceName } from '../agent.js';
import { fieldError } from '../forms.js';
import { t } from '../i18n.js';
import { copyFrom } from '../page.js';
import { checkPassword, checkUsername, TOKEN_NAME, WEAK } from '../rules.js';
import { whoIAm } from '../session.js';
import { Action, attempt, confirmed, Field, fieldOf, Form, html, List, live, moments, opened, resource, signal, valueOf } from './ui.js';

const users = resource(() => api('GET', 'api/users'));
const tokens = resource(() => api('GET', 'api/tokens'));
const sessions = resource(() => api('GET', 'api/auth/sessions'));
/** A new token's secret, shown once. @type {import('./ui.js').Signal<{ name: string, token: string } | undefined>} */
const secret = signal(undefined);
/** The user who gets another password or role. @type {import('./ui.js').Signal<any>} */
const edited = signal(undefined);

// ---- users -----------------------------------------------------------------------------------

/** @type {Record<string, string>} */
const ROLES = { user: 'role.user', admin: 'role.admin' };

/** @param {HTMLFormElement} form */
function checkUser(form) {
  checkUsername(fieldOf(form, 'username'));
  checkPassword(fieldOf(form, 'password'));
}

/** @param {HTMLFormElement} form */
function checkChange(form) {
  const field = fieldOf(form, 'password');
  if (field.value) checkPassword(field);
}

/** @param {HTMLFormElement} form */
async function makeUser(form) {
  const body = { username: valueOf(form, 'username'), password: fieldOf(form, 'password').value, role: valueOf(form, 'role') };
  await api('POST', 'api/users', body);
  form.reset();
  await users.refresh();
}

/** @param {HTMLFormElement} form */
async function changeUser(form) {
  const password = fieldOf(form, 'password').value || undefined;
  const role = valueOf(form, 'role');
  await api('PATCH', `api/users/${edited.peek().id}`, { password, role });
  closeDialog(form);
  await users.refresh();
}

/** Closed before it goes out of the page, it gives the focus back. @param {Element} inside */
const closeDialog = (inside) => inside.closest('dialog')?.close();

/** @param {any} row */
async function removeUser(row) {
  const text = t('admin.users.removeText');
  if (!(await confirmed(t('admin.users.removeTitle', { name: row.username }), text, t('admin.remove')))) return;
  await attempt(() => api('DELETE', `api/users/${row.id}`), () => t('admin.users.removed', { name: row.username }));
  await users.refresh();
}

/** @param {any} props */
const RoleField = ({ id, value }) => html`
  <${Field} id=${id} label=${t('admin.users.role')}>
    <select id=${id} name="role" value=${value} aria-describedby="${id}-error">
      ${Object.keys(ROLES).map((role) => html`<option value=${role} selected=${role === value}>${t(ROLES[role])}</option>`)}
    </select>
  </>
`;

/** @param {any} row */
const UserActs = (row) => html`
  <div class="row">
    <button type="button" class="small" onClick=${() => (edited.value = row)} aria-label=${t('admin.users.editLabel', { name: row.username })}>${t('admin.users.edit')}</button>
    ${row.username !== whoIAm()?.username && html`<button type="button" class="small danger" onClick=${() => removeUser(row)} aria-label=${t('admin.users.removeTitle', { name: row.username })}>${t('admin.remove')}</button>`}
  </div>
`;

const UserDialog = live(() => {
  const row = edited.value;
  if (!row) return null;
  return html`
    <dialog ref=${opened} onClose=${() => (edited.value = undefined)} aria-labelledby="edit-title">
      <h2 id="edit-title">${t('admin.users.editLabel', { name: row.username })}</h2>
      <${Form} class="stack" check=${checkChange} send=${changeUser} done=${() => t('admin.users.changed')} codes=${WEAK}>
        <${Field} id="edit-password" label=${t('password.new')} optional hint=${t('admin.users.sessionsEnd')}>
          <input id="edit-password" name="password" type="password" autocomplete="new-password" aria-describedby="edit-password-error edit-password-hint" />
        </>
        <${RoleField} id="edit-role" value=${row.role} />
        <div class="form-error"></div>
        <div class="actions">
          <button type="button" onClick=${(/** @type {any} */ { target }) => closeDialog(target)}>${t('page.cancel')}</button>
          <button class="primary">${t('admin.save')}</button>
        </div>
      </>
    </dialog>
  `;
});

/** @type {import('./ui.js').Column[]} */
const USERS = [
  ['signin.username', ({ username }) => username, ({ username }) => username],
  ['admin.users.role', ({ role }) => (ROLES[role] ? t(ROLES[role]) : role), ({ role }) => role],
  moments('admin.since', 'createdAt'),
  ['admin.actions', UserActs],
];

const Users = live(
  () => html`
    <section class="card stack" aria-labelledby="users-title">
      <h2 id="users-title">${t('admin.users.title')}</h2>
      <${List} of=${users} name="users" label=${t('admin.users.title')} columns=${USERS} empty=${t('admin.users.none')} />
      <details>
        <summary>${t('admin.users.make')}</summary>
        <${Form} id="make-user" class="stack inner" check=${checkUser} send=${makeUser} done=${() => t('admin.users.made')} codes=${{ ...WEAK, user_exists: ['username', 'admin.users.exists'] }}>
          <div class="pair">
            <${Field} id="new-user" label=${t('signin.username')}>
              <input id="new-user" name="username" autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby="new-user-error" />
            </>
            <${Field} id="new-user-password" label=${t('signin.password')} hint=${t('password.hint')}>
              <input id="new-user-password" name="password" type="password" aria-required="true" autocomplete="new-password" aria-describedby="new-user-password-error new-user-password-hint" />
            </>
            <${RoleField} id="new-user-role" value="user" />
          </div>
          <div class="form-error"></div>
          <div class="row"><button class="primary">${t('admin.users.make')}</button></div>
        </>
      </details>
      <${UserDialog} />
    </section>
  `,
);

// ---- tokens ----------------------------------------------------------------------------------

const SCOPES = ['subscribe', 'publish', 'emit', 'admin'];
/** @type {Record<string, string>} */
const SCOPE_NAMES = { subscribe: 'admin.tokens.subscribe', publish: 'admin.tokens.publish', emit: 'admin.tokens.emit', admin: 'admin.tokens.admin' };

/** @param {HTMLFormElement} form */
function checkToken(form) {
  if (!TOKEN_NAME.test(valueOf(form, 'name'))) fieldError(fieldOf(form, 'name'), () => t('admin.tokens.badName'));
}

/** @param {HTMLFormElement} form */
async function makeToken(form) {
  const scopes = SCOPES.filter((scope) => fieldOf(form, scope).checked);
  const channels = valueOf(form, 'channels').split(/[\s,]+/).filter(Boolean);
  const days = Number(valueOf(form, 'days')) || 365;
  secret.value = await api('POST', 'api/tokens', {
    name: valueOf(form, 'name'),
    scopes,
    days,
    ...(channels.length && { channels }),
  });
  form.reset();
  await tokens.refresh();
}

/** @param {any} row */
async function revoke(row) {
  const text = t('admin.tokens.revokeText');
  if (!(await confirmed(t('admin.tokens.revokeTitle', { name: row.name }), text, t('admin.tokens.revoke')))) return;
  await attempt(() => api('DELETE', `api/tokens/${row.id}`), () => t('admin.tokens.revoked', { name: row.name }));
  if (secret.peek()?.name === row.name) secret.value = undefined;
  await tokens.refresh();
}

const Secret = live(() => {
  const made = secret.value;
  if (!made) return null;
  const copy = (/** @type {any} */ event) => copyFrom(event.currentTarget, /** @type {HTMLElement} */ (document.getElementById('token-secret')));
  return html`
    <div class="banner ok" role="status">
      <p class="title">${t('admin.tokens.made', { name: made.name })}</p>
      <p class="body">${t('admin.tokens.once')}</p>
      <pre id="token-secret" tabindex="0">${made.token}</pre>
      <p class="row">
        <button type="button" class="small" onClick=${copy}>${t('copy.button')}</button>
        <button type="button" class="small" onClick=${() => (secret.value = undefined)}>${t('notice.close')}</button>
      </p>
    </div>
  `;
});

/** @type {import('./ui.js').Column[]} */
const TOKENS = [
  ['admin.tokens.name', ({ name }) => name, ({ name }) => name],
  ['admin.tokens.scopes', ({ scopes }) => scopes.map((/** @type {string} */ scope) => html`<span class="badge">${t(SCOPE_NAMES[scope])}</span> `)],
  ['admin.connections.channels', ({ channels }) => (channels ? channels.join(', ') : t('admin.all'))],
  moments('admin.tokens.used', 'usedAt'),
  moments('admin.expires', 'expiresAt'),
  ['admin.actions', (row) => html`<button type="button" class="small danger" onClick=${() => revoke(row)} aria-label=${t('admin.tokens.revokeTitle', { name: row.name })}>${t('admin.tokens.revoke')}</button>`],
];

const Tokens = live(
  () => html`
    <section class="card stack" aria-labelledby="tokens-title">
      <h2 id="tokens-title">${t('admin.tokens.title')}</h2>
      <p class="hint">${t('admin.tokens.lead')}</p>
      <${Secret} />
      <${List} of=${tokens} name="tokens" label=${t('admin.tokens.title')} columns=${TOKENS} empty=${t('admin.tokens.none')} />
      <details>
        <summary>${t('admin.tokens.make')}</summary>
        <${Form} id="make-token" class="stack inner" check=${checkToken} send=${makeToken} codes=${{ token_exists: ['name', 'admin.tokens.exists'] }}>
          <div class="pair">
            <${Field} id="token-name" label=${t('admin.tokens.name')}>
              <input id="token-name" name="name" autocomplete="off" spellcheck="false" aria-describedby="token-name-error" />
            </>
            <${Field} id="token-channels" label=${t('admin.connections.channels')} optional hint=${t('admin.tokens.channelsHint')}>
              <input id="token-channels" name="channels" autocomplete="off" spellcheck="false" aria-describedby="token-channels-error token-channels-hint" />
            </>
            <${Field} id="token-days" label=${t('admin.tokens.days')}>
              <input id="token-days" name="days" type="number" min="1" max="36500" defaultValue="365" aria-describedby="token-days-error" />
            </>
          </div>
          <fieldset class="row">
            <legend class="label">${t('admin.tokens.scopes')}</legend>
            ${SCOPES.map((scope) => html`<label class="row choice"><input type="checkbox" name=${scope} defaultChecked=${!['emit', 'admin'].includes(scope)} />${t(SCOPE_NAMES[scope])}</label>`)}
          </fieldset>
          <div class="form-error"></div>
          <div class="row"><button class="primary">${t('admin.tokens.make')}</button></div>
        </>
      </details>
    </section>
  `,
);

// ---- one's own sessions ----------------------------------------------------------------------

/** @param {any} row */
async function endSession(row) {
  await api('DELETE', `api/auth/sessions/${row.id}`);
  await sessions.refresh();
}

async function endOthers() {
  await api('DELETE', 'api/auth/sessions');
  await sessions.refresh();
}

/** @param {any} row */
const Device = ({ userAgent, current }) => html`${deviceName(userAgent) || userAgent || '–'} ${current && html`<span class="badge accent">${t('admin.sessions.this')}</span>`}`;

/** @type {import('./ui.js').Column[]} */
const SESSIONS = [
  ['admin.connections.device', Device, ({ userAgent }) => deviceName(userAgent)],
  ['admin.connections.address', ({ ipAddress }) => ipAddress, ({ ipAddress }) => ipAddress],
  moments('admin.since', 'createdAt'),
  moments('admin.tokens.used', 'usedAt'),
  moments('admin.expires', 'expiresAt'),
  ['admin.actions', (row) => !row.current && html`<${Action} class="small danger" act=${() => endSession(row)}>${t('admin.sessions.end')}</>`],
];

const Sessions = live(
  () => html`
    <section class="card stack" aria-labelledby="sessions-title">
      <div class="row end">
        <h2 id="sessions-title">${t('admin.sessions.title')}</h2>
        <${Action} class="small" act=${endOthers} done=${() => t('admin.sessions.ended')}>${t('admin.sessions.endOthers')}</>
      </div>
      <${List} of=${sessions} name="sessions" label=${t('admin.sessions.title')} columns=${SESSIONS} empty=${t('admin.sessions.none')} />
    </section>
  `,
);

export const People = live(() => html`<${Users} /><${Tokens} /><${Sessions} />`);

export const enter = () => Promise.all([users.refresh(), tokens.refresh(), sessions.refresh()]);

export function leave() {
  secret.value = undefined;
  edited.value = undefined;
  for (const each of [users, tokens, sessions]) each.forget();
}
