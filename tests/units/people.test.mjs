/** Who is in a call, and what is said of them (`static/js/room.js`, `static/js/room/seats.js`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { put } from './browser.mjs';
import { setLanguage, t } from '../../static/js/i18n.js';
import { isOwnLine } from '../../static/js/quality.js';
import { Participant } from '../../static/js/room.js';
import { nameOf } from '../../static/js/room/names.js';
import { raised, troubleOf } from '../../static/js/room/seats.js';

put(
  'MediaStream',
  class {
    constructor(tracks) {
      this.tracks = tracks;
    }
  },
);
await setLanguage('en', false);

/** Somebody of whom this is known; by default they are there and send everything. */
function somebody(facts = {}, isSelf = false) {
  const everything = { displayName: 'Bob', audio: true, video: true, screen: true };
  return Object.assign(new Participant(isSelf), everything, facts);
}

const linked = (link, facts = {}) => somebody({ peer: { link, streams: {} }, ...facts });
const ROLES = ['microphone', 'camera', 'screen', 'screenAudio'];
const sends = (facts) => ROLES.filter((role) => somebody(facts).sends(role));

test('what somebody says they send, and the host does not forbid, may be heard and seen', () => {
  assert.deepEqual(sends({}), ROLES);
  assert.deepEqual(sends({ audio: false }), ['camera', 'screen', 'screenAudio']);
  assert.deepEqual(sends({ video: false }), ['microphone', 'screen', 'screenAudio']);
  assert.deepEqual(sends({ screen: false }), ['microphone', 'camera']);
  assert.deepEqual(sends({ muted: true }), ['camera', 'screen']);
  assert.deepEqual(sends({ cameraOff: true }), ['microphone', 'screenAudio']);
  assert.deepEqual(sends({ muted: true, cameraOff: true }), []);
});

test('streams are those of what may be heard and seen', () => {
  const streams = { microphone: 'voice', camera: 'face', screen: 'slides', screenAudio: 'film' };
  const bob = somebody({ peer: { streams } });
  assert.deepEqual(bob.streams, { audio: 'voice', camera: 'face', screen: 'slides', screenAudio: 'film' });
  Object.assign(bob, { muted: true, video: false });
  assert.deepEqual(bob.streams, { audio: null, camera: null, screen: 'slides', screenAudio: null });
  assert.deepEqual(somebody().streams, { audio: null, camera: null, screen: null, screenAudio: null });
});

test('oneself is seen and never heard', () => {
  const self = somebody({}, true);
  for (const role of ROLES) self.preview(role, role);
  const { audio, camera, screen, screenAudio } = self.streams;
  assert.deepEqual([audio, camera.tracks, screen.tracks, screenAudio], [null, ['camera'], ['screen'], null]);
  self.preview('camera', null);
  assert.equal(self.streams.camera, null);
});

test('a connection that is not there is worse than any of its statistics', () => {
  const poor = { level: 'poor', reason: 'loss', rttMs: 5 };
  const quality = (link) => {
    const bob = linked(link);
    bob.meter.quality = poor;
    return bob.quality;
  };
  assert.deepEqual(quality('connected'), poor);
  assert.deepEqual(quality('connecting'), poor);
  assert.deepEqual(quality('interrupted'), { ...poor, level: 'lost', reason: 'interrupted' });
  assert.deepEqual(quality('failed'), { ...poor, level: 'lost', reason: 'no-path' });
  assert.deepEqual([somebody({}, true).link, somebody().link], ['connected', 'connecting']);
});

test('the first hand that was raised comes first, and one without a time last', () => {
  const hands = [
    { id: 1, hand: true, handAt: null },
    { id: 2, hand: true, handAt: '2026-05-01T12:00:01.500Z' },
    { id: 3, hand: false, handAt: '2026-05-01T11:00:00Z' },
    { id: 5, hand: true, handAt: '2026-05-01T12:00:01Z' },
    { id: 4, hand: true, handAt: '2026-05-01T12:00:01Z' },
  ].map((facts) => somebody(facts));
  assert.deepEqual(raised(hands).map(({ id }) => id), [4, 5, 2, 1]);
  assert.deepEqual(hands.map(({ id }) => id), [1, 2, 3, 5, 4], 'the list itself stays');
});

test('oneself is told from somebody of the same name', () => {
  assert.equal(nameOf(somebody()), 'Bob');
  assert.equal(nameOf(somebody({}, true)), 'Bob (you)');
});

test('what is wrong with a connection is told, the worst first', () => {
  const said = (link, facts, quality = {}) => {
    const bob = linked(link, facts);
    bob.meter.quality = { ...bob.meter.quality, ...quality };
    return troubleOf(bob);
  };
  const poor = (reason) => ({ level: 'poor', reason });
  const away = { status: 'reconnecting' };
  assert.equal(said('connected'), '');
  assert.equal(said('connected', {}, poor('loss')), t('room.quality.loss'));
  assert.equal(said('connected', {}, poor('delay')), t('room.quality.delay'));
  assert.equal(said('connected', {}, poor('jitter')), t('room.quality.jitter'));
  assert.equal(said('connected', {}, poor('something new')), '');
  assert.equal(said('connected', {}, { level: 'good', reason: 'loss' }), '');
  assert.equal(said('connected', away, poor('loss')), t('room.link.away', { name: 'Bob' }));
  assert.equal(said('connecting'), t('room.link.connecting'));
  assert.equal(said('interrupted'), t('room.quality.interrupted'));
  assert.equal(said('interrupted', away), t('room.link.away', { name: 'Bob' }));
  assert.equal(said('failed', away), t('room.quality.noPath'));
});

test('of oneself only the own machine is told', () => {
  const self = somebody({ status: 'reconnecting' }, true);
  assert.equal(troubleOf(self), '');
  self.meter.quality = { ...self.meter.quality, reason: 'cpu' };
  assert.equal(troubleOf(self), t('room.quality.ownCpu'));
});

test('what most of the others have at once is the own line', () => {
  const bad = (reason, link = 'connected') => {
    const one = linked(link);
    one.meter.quality = { ...one.meter.quality, level: 'poor', reason };
    return one;
  };
  const [self, fine] = [somebody({}, true), linked('connected')];
  const isOwn = (...others) => isOwnLine([self, ...others]);
  assert.ok(isOwn(bad('loss'), bad('delay')));
  assert.ok(isOwn(bad('loss'), bad('jitter'), fine));
  assert.ok(isOwn(bad('', 'interrupted'), bad('', 'interrupted'), fine));
  assert.ok(isOwn(bad('loss'), bad('loss'), linked('connecting'), linked('connecting')), 'who comes says nothing');
  assert.ok(!isOwn(), 'nobody');
  assert.ok(!isOwn(bad('loss')), 'of two it may be either');
  assert.ok(!isOwn(bad('loss'), fine));
  assert.ok(!isOwn(bad('loss'), bad('loss'), fine, fine));
  assert.ok(!isOwn(bad('cpu'), bad('cpu')), 'their machines');
  assert.ok(!isOwn(linked('failed'), linked('failed')), 'no way is another matter');
});
