/** What is kept in this browser (`static/js/room/memory.js`, `roomsession.js`). */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { put, Storage } from './browser.mjs';
import { recall, remember } from '../../static/js/room/memory.js';
import { roomSession } from '../../static/js/roomsession.js';

beforeEach(() => put('localStorage', new Storage()));

/** As somebody else, or an older version, left it. */
const store = (name, text) => localStorage.setItem(`rtapp.call.${name}`, text);

test('what is remembered is recalled', () => {
  for (const value of ['text', '', 5, true, false, { audio: 'mic' }]) {
    remember('value', value);
    assert.deepEqual(recall('value', typeof value === 'object' ? {} : value), value);
  }
  assert.equal(localStorage.getItem('rtapp.call.value'), '{"audio":"mic"}');
});

test('what was never remembered, or is of another kind, is what it is by default', () => {
  assert.equal(recall('nothing', 'default'), 'default');
  for (const text of ['{broken', '', 'null', '5', '"text"', '{}']) {
    store('odd', text);
    assert.equal(recall('odd', true), true, text);
  }
  store('odd', '5');
  assert.deepEqual(recall('odd', { a: 1 }), { a: 1 });
});

test('an object that lacks something gets it by default', () => {
  store('devices', '{"audio":"mic"}');
  assert.deepEqual(recall('devices', { audio: '', video: 'front' }), { audio: 'mic', video: 'front' });
});

test('where storage is forbidden it lasts as long as the page', () => {
  localStorage.forbid = true;
  remember('name', 'Ada');
  assert.equal(recall('name', ''), 'Ada');
  assert.equal(recall('other', 'default'), 'default');
});

test('the session of a room is the same in each tab, and after a reload', () => {
  const session = roomSession('standup');
  assert.match(session, /^[\w-]{22}$/);
  assert.equal(localStorage.getItem('rtapp.room.standup'), session);
  assert.equal(roomSession('standup'), session);
  localStorage.setItem('rtapp.room.from-another-tab', 's'.repeat(22));
  assert.equal(roomSession('from-another-tab'), 's'.repeat(22));
});

test('each room has a session of its own', () => {
  const sessions = new Set(Array.from({ length: 50 }, (_, at) => roomSession(`room${at}`)));
  assert.equal(sessions.size, 50);
  assert.ok([...sessions].every((session) => /^[\w-]{22}$/.test(session)), 'letters that an address takes');
});

test('a session that can not be stored lasts as long as the page', () => {
  localStorage.forbid = true;
  const session = roomSession('private');
  assert.match(session, /^[\w-]{22}$/);
  assert.equal(roomSession('private'), session);
});
