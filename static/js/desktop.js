/** The start page of the desktop program, in its window or in the browser: calls, and its end. */
import { api, ApiError, ROOT } from './api.js';
import { confirmed } from './dialog.js';
import { wireForm } from './forms.js';
import './header.js';
import { onLanguage, t } from './i18n.js';
import { notice } from './notices.js';
import { makeCall } from './open-calls.js';
import { banner, button, byId, errorBanner, h, redraw, startPage } from './page.js';
import { wireReveals } from './password.js';
import { checkPassword, checkUsername, WEAK } from './rules.js';
import { redeem, takeLink } from './session.js';
import { sharePanel } from './share.js';

const EVERY = 2000; // ms between two looks at what goes on

/**
 * @typedef {object} Program what `GET /api/desktop` says
 * @property {string} version
 * @property {boolean} inWindow
 * @property {'' | 'none' | 'died'} why why it has no window
 * @property {number} port
 * @property {number | null} movedFrom
 * @property {number} people in calls
 * @property {boolean} awake
 * @property {boolean} hasAdmin
 * @property {boolean} shared on the network
 * @property {string} dataFolder
 * @property {string} logFolder
 */
/** @typedef {{ roomId: string, name: string, participantCount: number }} Room */
/** @typedef {{ id: number, username: string, role: string }} User */

/** @type {Program | undefined} */
let program;
/** @type {Room[]} */
let rooms = [];
/** @type {User[]} */
let admins = [];
/** Whether the program has ended by this page's doing. */
let ended = false;

const passwordForm = /** @type {HTMLFormElement} */ (byId('password'));
const chosen = /** @type {HTMLInputElement} */ (byId('password-new'));
const user = /** @type {HTMLSelectElement} */ (byId('password-user'));

// ---- what goes on ----------------------------------------------------------------------------

async function look() {
  try {
    program = await api('GET', 'api/desktop');
    rooms = await api('GET', 'api/video/rooms');
    notice('trouble');
  } catch (error) {
    if (!ended) showTrouble(/** @type {ApiError} */ (error));
  }
  render();
}

/** @param {ApiError} error */
function showTrouble(error) {
  const stranger = [401, 403, 404].includes(error.status);
  if (stranger) program = undefined;
  const render = () => {
    if (stranger) return banner('info', t('desktop.refused'), t('desktop.refusedBody'));
    if (error.status === 0) return banner('warn', t('desktop.stopped'), t('desktop.stoppedBody'));
    return errorBanner(error);
  };
  notice('trouble', render, String(error)); // the same isn't said aloud again every two seconds
}

function render() {
  const here = program !== undefined && !ended;
  byId('workspace').hidden = !here;
  byId('quit').hidden = !here;
  byId('open-browser').hidden = !here || !program?.inWindow;
  if (!program || !here) return;
  renderCalls();
  renderShare(program);
  renderFacts(program);
  renderNews(program);
}

function renderCalls() {
  const open = rooms.filter(({ participantCount }) => participantCount > 0);
  byId('calls-part').hidden = !open.length;
  redraw(byId('calls'), open, () => open.map(callItem));
}

/** @param {Room} room */
function callItem({ roomId, name, participantCount }) {
  return h(
    'li',
    {},
    h('span', { class: 'name' }, name),
    h('span', { class: 'hint' }, t('desktop.callPeople', { count: participantCount })),
    button(t('desktop.callOpen'), () => void openCall(roomId)),
  );
}

/** @param {Program} now */
function renderFacts({ version, dataFolder, logFolder, awake }) {
  const facts = [
    [t('desktop.version'), version],
    [t('desktop.data'), dataFolder],
    [t('desktop.log'), logFolder],
  ];
  byId('facts').replaceChildren(...facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
  byId('awake').hidden = !awake;
}

/** What is told once: why there is no window, and that the port is another one. @param {Program} now */
function renderNews({ why, movedFrom, port, inWindow }) {
  const died = () => banner('warn', t('desktop.whyDied'), t('desktop.whyDiedBody'));
  const none = () => banner('info', t('desktop.whyNone'), t('desktop.whyNoneBody'));
  notice('why', inWindow || !why ? undefined : why === 'died' ? died : none, why);
  const moved = () => {
    // As text: a port is a name, not a quantity.
    const ports = { from: String(movedFrom), port: String(port) };
    return banner('warn', t('desktop.moved'), t('desktop.movedBody', ports));
  };
  notice('moved', movedFrom === null ? undefined : moved, String(movedFrom));
}

// ---- calls -----------------------------------------------------------------------------------

async function startCall() {
  const start = /** @type {HTMLButtonElement} */ (byId('start-call'));
  start.disabled = true;
  try {
    const { roomId } = await makeCall({});
    await openCall(roomId);
  } catch (error) {
    notice('call', () => errorBanner(error));
  } finally {
    start.disabled = false;
  }
}

/** Where whoever is alone is offered the invitation. @param {string} roomId */
async function openCall(roomId) {
  await openInBrowser(`/room/${roomId}#new`);
  byId('call-result').textContent = t('desktop.opened');
}

/**
 * A window holds no call: the default browser does, which gets this page's identity.
 * @param {string} path
 */
async function openInBrowser(path) {
  try {
    await api('POST', 'api/desktop/open', { path });
    notice('call');
  } catch (error) {
    notice('call', () => errorBanner(error));
  }
}

// ---- sharing ---------------------------------------------------------------------------------

const shareForm = /** @type {HTMLFormElement} */ (byId('share-account'));
const shareName = /** @type {HTMLInputElement} */ (byId('share-username'));
const sharePassword = /** @type {HTMLInputElement} */ (byId('share-password'));
/** @type {ReturnType<typeof sharePanel> | undefined} */
let panel;

/** Others are let in only where there is an account to manage it with; that is asked for once. */
/** @param {Program} now */
function renderShare({ hasAdmin, shared }) {
  byId('share-first').hidden = hasAdmin;
  byId('firewall').hidden = shared || (!hasAdmin && shareForm.hidden);
  if (!hasAdmin || panel) return;
  panel = sharePanel(byId('share'));
  void panel.refresh();
}

function wireShare() {
  byId('share-start').addEventListener('click', () => {
    shareForm.hidden = false;
    byId('share-begin').hidden = true;
    render();
    shareName.focus();
  });
  wireForm(shareForm, {
    check: () => {
      checkUsername(shareName);
      checkPassword(sharePassword);
    },
    send: async () => {
      const account = { username: shareName.value.trim(), password: sharePassword.value, role: 'admin' };
      await api('POST', 'api/users', account);
      shareForm.reset();
      await api('POST', 'api/network', { share: true }).catch((error) => {
        notice('call', () => errorBanner(error));
      });
      await look();
      await lookForAdmins();
      byId('share').querySelector('button')?.focus();
    },
    codes: WEAK,
  });
}

// ---- questions, the end ----------------------------------------------------------------------

/** Whether to quit though people are in calls. */
async function askToQuit() {
  if (document.getElementById('ask-dialog')) return;
  const text = t('desktop.quitBody', { count: program?.people ?? 0 });
  if (await confirmed(t('desktop.quitTitle'), text, t('desktop.quitYes'), t('desktop.quitNo'))) await quit(true);
}

/** @param {boolean} force */
async function quit(force) {
  try {
    await api('POST', 'api/desktop/quit', { force });
  } catch (error) {
    if (error instanceof ApiError && error.code === 'call_running') {
      await look(); // who is in calls, as the question says it
      void askToQuit();
    } else notice('call', () => errorBanner(error));
    return;
  }
  ended = true;
  byId('heading').hidden = true;
  for (const kind of ['why', 'moved', 'call', 'trouble']) notice(kind);
  notice('ended', () => banner('ok', t('desktop.ended'), t('desktop.endedBody')));
  render();
  byId('main').focus();
}

// ---- a forgotten password --------------------------------------------------------------------

async function lookForAdmins() {
  /** @type {User[]} */
  const users = await api('GET', 'api/users').catch(() => []);
  admins = users.filter(({ role }) => role === 'admin');
  byId('password-part').hidden = !admins.length;
  user.replaceChildren(...admins.map(({ id, username }) => h('option', { value: String(id) }, username)));
}

function wirePassword() {
  wireForm(passwordForm, {
    check: () => checkPassword(chosen),
    send: async () => {
      const name = user.selectedOptions[0].textContent ?? '';
      await api('PATCH', `api/users/${user.value}`, { password: chosen.value });
      passwordForm.reset();
      notice('password', () => banner('ok', t('desktop.passwordDone', { name }), t('password.changedBody')));
    },
    codes: WEAK,
  });
}

// ---- start -----------------------------------------------------------------------------------

/**
 * Where the program leads this page: `#quit` asks, `call` is opened in the browser, a one-time
 * token signs in, and then `to` is another page of ours.
 */
async function followLink() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const { signin } = takeLink();
  if (location.hash) history.replaceState(null, '', location.pathname);
  if (signin) await redeem(signin).catch(() => {});
  const to = new URL(parameters.get('to') ?? '', ROOT);
  const asks = new URLSearchParams(to.hash.slice(1));
  if (signin && to.origin === ROOT.origin && to.pathname !== location.pathname && parameters.has('to')) {
    location.replace(to);
    return;
  }
  await look();
  const call = parameters.get('call');
  if (call && program) await openCall(call);
  if (program && (parameters.has('quit') || asks.has('quit'))) void askToQuit();
}

/** In this program the first page is this one. */
function leadHere() {
  for (const link of document.querySelectorAll('.page-header [data-href=""]')) link.setAttribute('data-href', 'desktop');
  for (const id of ['nav-console', 'nav-admin']) byId(id).hidden = false;
  byId('nav-start').setAttribute('aria-current', 'page');
}

async function start() {
  leadHere();
  wireReveals(); // before the texts come, which then stand on the buttons
  await startPage();
  byId('start-call').addEventListener('click', () => void startCall());
  byId('open-browser').addEventListener('click', () => void openInBrowser('/desktop'));
  byId('quit').addEventListener('click', () => void quit(false));
  byId('password-part').addEventListener('toggle', () => void lookForAdmins());
  wirePassword();
  wireShare();
  addEventListener('hashchange', () => void followLink());
  onLanguage(render);
  await followLink();
  await lookForAdmins();
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    if (!ended) await look();
  }
}

void start();
