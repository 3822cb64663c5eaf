/** The start page: the way in; then three doors (calls, sharing, the API), and the console on a tab of its own. */
import './account.js';
import { ROOT, unreachable } from './api.js';
import { forgetCalls, showCalls, wireCalls } from './calls.js';
import { t } from './i18n.js';
import { notice } from './notices.js';
import { button, byId, copyFrom, errorBanner, startPage } from './page.js';
import { mayListen, onSession, refresh, takeLink, whoIAm } from './session.js';
import { follow, wireSignIn } from './signin.js';
import { sharePanel } from './share.js';

/** Whom the console is open for; undefined: nobody yet. @type {string | undefined} */
let openFor;
/** Whose page it is. @type {string | undefined} */
let owner;
/** Once it was asked for. @type {typeof import('./console.js') | undefined} */
let live;
/** @type {ReturnType<typeof sharePanel> | undefined} */
let panel;

/** @type {import('./session.js').SessionListener} */
function onWho(me, change) {
  const may = mayListen();
  const name = me?.authenticated ? `as ${me.username}` : 'anonymous';
  if (change === 'left' || (me && may && owner !== undefined && owner !== name)) forget();
  if (me && may) owner = name;
  const isGuest = !may && me?.guests && !me.setupNeeded;
  byId('workspace').hidden = !may;
  byId('guest').hidden = !isGuest;
  showShare(me?.role === 'admin');
  if (!may) {
    openFor = undefined;
    live?.close();
  } else if (change !== 'asked' || openFor !== name) {
    openFor = name;
    live?.open();
  }
  show();
}

/** What the address asks for: the doors or the console; of a guest, the calls. */
function show() {
  const may = !byId('workspace').hidden;
  const isGuest = !byId('guest').hidden;
  const isConsole = may && location.hash === '#console';
  byId('doors').hidden = isConsole;
  byId('console').hidden = !isConsole;
  byId('lead').hidden = isConsole;
  byId(isConsole ? 'nav-console' : 'nav-start').setAttribute('aria-current', 'page');
  byId(isConsole ? 'nav-start' : 'nav-console').removeAttribute('aria-current');
  say(byId('heading'), isConsole ? 'console.heading' : isGuest ? 'guest.title' : 'home.heading');
  say(byId('lead'), isGuest ? 'guest.lead' : 'home.lead');
  say(/** @type {HTMLElement} */ (document.querySelector('title')), isConsole ? 'console.title' : 'home.title');
  showCalls(isGuest ? byId('guest-calls') : may && !isConsole ? byId('calls') : undefined);
  if (isConsole && !live) void loadConsole();
}

/** @param {HTMLElement} element @param {string} key of its text, in each language */
function say(element, key) {
  element.dataset.i18n = key;
  element.textContent = t(key);
}

/** It comes when it is looked at: whoever starts a call needs none of it. */
async function loadConsole() {
  try {
    live ??= await import('./console.js');
    notice('console');
    if (openFor !== undefined) live.open();
  } catch (error) {
    // A browser keeps that it failed.
    notice('console', () => errorBanner(unreachable(error), button(t('page.again'), () => location.reload())));
  }
}

/** How to share, for those who may. @param {boolean} isAdmin */
function showShare(isAdmin) {
  if (isAdmin) {
    panel ??= sharePanel(byId('share'));
    void panel.refresh();
    return;
  }
  panel?.stop();
  panel = undefined;
  byId('share').replaceChildren();
  byId('share').hidden = true;
}

/** Leave nothing on the screen for whoever comes next. */
function forget() {
  live?.forget();
  forgetCalls();
  owner = undefined;
}

/** Back to the page that sent somebody here to sign in. */
function goOn() {
  if (new URLSearchParams(location.search).get('to') === 'admin' && whoIAm()?.role === 'admin') {
    location.replace(new URL('admin', ROOT));
  }
}

function onAddress() {
  // A link opened in a tab that shows this page already changes only the fragment.
  const link = takeLink();
  if (link.setup || link.signin) void follow(link);
  show();
  byId('heading').focus();
  scrollTo(0, 0);
}

function wire() {
  wireSignIn();
  wireCalls();
  const copy = /** @type {HTMLButtonElement} */ (document.querySelector('[data-copy=setup-command]'));
  copy.addEventListener('click', () => copyFrom(copy, byId('setup-command')));
  addEventListener('hashchange', onAddress);
  // A page kept for "back" lost its stream.
  addEventListener('pageshow', ({ persisted }) => {
    if (!persisted) return;
    openFor = undefined;
    void refresh();
  });
  // After the others: what shows the form again may not be hidden afterwards.
  onSession(onWho);
  onSession(goOn);
}

const link = takeLink();
byId('nav-start').dataset.href = '#'; // without loading the page again
wire();
await startPage();
await follow(link);
