/** Who is signed in (`static/js/session.js`). */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { put, settled } from './browser.mjs';

/** The browser's other tabs. */
let tabs;
put(
  'BroadcastChannel',
  class {
    told = [];

    constructor() {
      tabs = this;
    }

    postMessage(said) {
      this.told.push(said);
    }
  },
);

// Only now, so that its channel is the one above.
const { changePassword, onSession, refresh, saysEnded, signIn, signOut, takeLink, whoIAm } = await import(
  '../../static/js/session.js'
);

const NOBODY = { authenticated: false };
const ADA = { authenticated: true, username: 'ada' };

/** Who the cookie belongs to, for the server; `false`: it is not reached. */
let cookie;
let asked;
let told;
/** What another call does to the cookie, and when. */
let acts = {};
onSession((me, change) => told.push([me?.username ?? me?.authenticated, change]));

beforeEach(async () => {
  cookie = NOBODY;
  acts = {};
  put('fetch', async (url, { body }) => {
    const path = url.pathname.split('/api/')[1];
    asked.push(path);
    if (cookie === false) throw new TypeError('Failed to fetch');
    if (path === 'auth/me') return Response.json(cookie);
    await acts[path]?.(JSON.parse(body));
    return Response.json({});
  });
  [asked, told] = [[], []];
  await signOut();
  [asked, told, tabs.told] = [[], [], []];
});

test('the token of a link is taken, and out of the address at once', () => {
  const replaced = [];
  put('history', { replaceState: (_, __, url) => replaced.push(url) });
  for (const [hash, link] of [
    ['#setup=abc', { setup: 'abc', signin: '' }],
    ['#signin=a%2Bb&to=x', { setup: '', signin: 'a+b' }],
    ['#part', { setup: '', signin: '' }],
    ['', { setup: '', signin: '' }],
  ]) {
    put('location', { hash, pathname: '/app/', search: '?to=admin' });
    assert.deepEqual(takeLink(), link);
  }
  assert.deepEqual(replaced, ['/app/?to=admin', '/app/?to=admin']);
});

test('whoever signs in or out is told, here and in other tabs', async () => {
  acts['auth/login'] = () => (cookie = ADA);
  acts['auth/logout'] = () => (cookie = NOBODY);
  await signIn('ada', 'secret');
  assert.deepEqual(whoIAm(), ADA);
  await signOut();
  assert.deepEqual(told, [['ada', 'entered'], [false, 'left']]);
  assert.deepEqual(tabs.told, ['entered', 'left']);
});

test('a session that ends without this page is told as such, once', async () => {
  cookie = ADA;
  await refresh();
  cookie = NOBODY;
  await refresh();
  await refresh();
  assert.deepEqual(told, [['ada', 'asked'], [false, 'ended'], [false, 'asked']]);
});

test('another tab that signs in or out changes this one', async () => {
  cookie = ADA;
  tabs.onmessage();
  await settled();
  cookie = NOBODY;
  tabs.onmessage();
  await settled();
  assert.deepEqual(told, [['ada', 'renewed'], [false, 'ended']]);
  assert.deepEqual(tabs.told, [], 'which need not be told');
});

test('a server out of reach says nothing about the session', async () => {
  cookie = ADA;
  await refresh();
  cookie = false;
  await refresh();
  assert.deepEqual([whoIAm(), told.at(-1)], [ADA, ['ada', 'asked']]);
});

test('only a refusal for the lack of a session says that it has ended', async () => {
  assert.equal(saysEnded({ code: 'forbidden' }), false);
  assert.deepEqual(asked, []);
  assert.equal(saysEnded({ code: 'unauthorized' }), true);
  await settled();
  assert.deepEqual(asked, ['auth/me']);
});

test('a cookie that was not kept is an error', async () => {
  await assert.rejects(signIn('ada', 'secret'), { name: 'ApiError', code: 'cookie_refused', status: 0 });
});

test('a question waits until the cookie has changed', async () => {
  let answer;
  acts['auth/password'] = () => new Promise((resolve) => (answer = resolve));
  const changed = changePassword('old', 'new');
  const question = refresh();
  await settled();
  assert.deepEqual(asked, ['auth/password']);
  answer();
  await Promise.all([changed, question]);
  assert.deepEqual(asked, ['auth/password', 'auth/me', 'auth/me']);
  assert.deepEqual(told.map(([, change]) => change), ['renewed', 'asked']);
});

test('a change that is refused changes nothing, and the next one is done all the same', async () => {
  acts['auth/login'] = () => Promise.reject(new TypeError('Failed to fetch'));
  await assert.rejects(signIn('ada', 'wrong'), { code: 'unreachable' });
  assert.deepEqual([told, tabs.told], [[], []]);
  acts['auth/login'] = () => (cookie = ADA);
  await signIn('ada', 'secret');
  assert.deepEqual(whoIAm(), ADA);
});
