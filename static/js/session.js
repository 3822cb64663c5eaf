/** Who is signed in: what changes it, and news of every change, also of those by other tabs. */
import { api, ApiError, ROOT } from './api.js';

/**
 * @typedef {object} Me
 * @property {boolean} authenticated
 * @property {string} role
 * @property {string | null} [username]
 * @property {'private' | 'open'} access whether reading and sending need a sign-in
 * @property {boolean} guests whether calls may be joined without a sign-in
 * @property {boolean} setupNeeded whether there is no administrator yet
 * @property {boolean} inWindow whether this is the desktop program’s own window
 */
/**
 * How it came about: the server was `asked`, this page `entered` or `left`, its credential was
 * `renewed`, or the session `ended` without its doing.
 * @typedef {'asked' | 'entered' | 'renewed' | 'left' | 'ended'} Change
 */
/** @typedef {(me: Me | undefined, change: Change) => void} SessionListener */

/** @type {Me | undefined} */
let me;
/** @type {Set<SessionListener>} */
const listeners = new Set();
/** @type {Promise<unknown>} */
let last = Promise.resolve();

/** The tabs of a browser share the cookie: whoever changes it tells the others. @type {BroadcastChannel | undefined} */
let tabs;
try {
  tabs = new BroadcastChannel(`rtapp.session ${ROOT.pathname}`);
  tabs.onmessage = () => void inTurn(() => ask('renewed'));
} catch {
  // An old browser has none, and one that keeps no cookies forbids it: calls work without.
}

/** What is known; undefined as long as the server wasn't reached. */
export const whoIAm = () => me;

/** Whether messages may be read; supposed as long as the server wasn't reached. */
export const mayListen = () => !me || me.authenticated || me.access === 'open';

/**
 * Be told after each answer of the server to "who am I?".
 * @param {SessionListener} listener
 */
export function onSession(listener) {
  listeners.add(listener);
}

/**
 * Take the one-time token out of `#setup=…` or `#signin=…`, and at once out of the address bar and
 * the history.
 */
export function takeLink() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const link = { setup: parameters.get('setup') ?? '', signin: parameters.get('signin') ?? '' };
  if (link.setup || link.signin) history.replaceState(null, '', location.pathname + location.search);
  return link;
}

/** Ask the server again. */
export const refresh = () => inTurn(() => ask('asked'));

/**
 * Whether a refusal says that the session has ended; then what is shown follows.
 * @param {unknown} error
 */
export function saysEnded(error) {
  if (/** @type {ApiError | undefined} */ (error)?.code !== 'unauthorized') return false;
  void refresh();
  return true;
}

/**
 * Make the first administrator, and go on signed in.
 * @param {string} token of the setup link
 * @param {string} username
 * @param {string} password
 */
export const setUp = (token, username, password) => enter('api/auth/setup', { token, username, password });

/**
 * Whether a setup link is still of use: nobody is made with a password of one letter, but a link that
 * is used or too old is refused before that is looked at.
 * @param {string} token
 */
export async function isGoodLink(token) {
  const refusal = await api('POST', 'api/auth/setup', { token, username: 'nobody', password: '-' }).catch((error) => error);
  return refusal?.code !== 'invalid_link';
}

/** @param {string} token of the link by which the program opens a browser */
export const redeem = (token) => enter('api/auth/redeem', { token });

/**
 * @param {string} username
 * @param {string} password
 */
export const signIn = (username, password) => enter('api/auth/login', { username, password });

export const signOut = () => change('api/auth/logout', {}, 'left');

/**
 * The user's other sessions end.
 * @param {string} current
 * @param {string} password
 */
export const changePassword = (current, password) =>
  change('api/auth/password', { current, password }, 'renewed');

/**
 * @param {string} path
 * @param {unknown} body
 */
async function enter(path, body) {
  await change(path, body, 'entered');
  if (me && !me.authenticated) {
    throw new ApiError({ status: 0, code: 'cookie_refused', title: 'The cookie was not kept' });
  }
}

/**
 * @param {string} path
 * @param {unknown} body
 * @param {Change} kind
 */
function change(path, body, kind) {
  return inTurn(async () => {
    await api('POST', path, body);
    await ask(kind);
    tabs?.postMessage(kind);
  });
}

/**
 * One call after the other: a question asked while the cookie changes would get the old answer.
 * @param {() => Promise<void>} act
 */
function inTurn(act) {
  const turn = last.then(act);
  last = turn.catch(() => {});
  return turn;
}

/** @param {Change} kind */
async function ask(kind) {
  const before = me;
  // A server out of reach says nothing about the session.
  me = (await api('GET', 'api/auth/me').catch(() => undefined)) ?? me;
  const ended = before?.authenticated && !me?.authenticated && kind !== 'left';
  for (const listener of listeners) listener(me, ended ? 'ended' : kind);
}
