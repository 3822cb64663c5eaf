/** The engine of a call, with a server and connections of the test's own (`static/js/room.js`). */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Clock, put, settled, until } from './browser.mjs';
import { Connection, Track } from './webrtc.mjs';
import { Room } from '../../static/js/room.js';

/** Somebody as the server tells of them. */
const person = (clientId, more = {}) => ({
  clientId,
  connectionId: `${clientId}-1`,
  id: clientId.charCodeAt(0),
  displayName: clientId,
  joinedAt: '2026-01-01T00:00:00Z',
  status: 'connected',
  audio: false,
  video: false,
  screen: false,
  hand: false,
  muted: false,
  cameraOff: false,
  ...more,
});

/** The server: who is in the room, what was said, and each call that came. */
class Server {
  people = [person('b')];
  self = person('a');
  chat = [];
  calls = [];
  streams = [];
  limits = {};
  /** Awaited before a call is answered. */
  wait = async () => {};

  constructor() {
    put('fetch', (url, request) => this.answer(url, request));
  }

  async answer(url, { method = 'GET', body, signal }) {
    const call = { method, path: url.pathname.replace(/.*\/api\//, ''), body: body && JSON.parse(body) };
    this.calls.push(call);
    if (call.path === 'events') return this.open(signal);
    await this.wait(call, signal);
    return new Response(JSON.stringify(this.reply(call)), { headers: { 'Content-Type': 'application/json' } });
  }

  reply({ method, path }) {
    if (path.endsWith('/join')) {
      const { self, limits } = this;
      return { status: 'joined', participant: self, participants: [self, ...this.people], room: {}, lastEventId: 'e-1', ...limits };
    }
    if (method === 'GET' && path.endsWith('/chat')) return this.chat;
    if (method === 'GET') return { participants: [this.self, ...this.people] };
    return {};
  }

  open(signal) {
    const stream = new ReadableStream({
      start: (controller) => {
        this.stream = controller;
        this.streams.push(controller);
        signal?.addEventListener('abort', () => controller.error(new Error('AbortError')));
      },
    });
    this.say('connection', { clientId: 'a', session: 's', pingInterval: 25 });
    return new Response(stream);
  }

  #last = 1;

  say(event, data) {
    this.#last += 1;
    const text = `event: ${event}\nid: e-${this.#last}\ndata: ${JSON.stringify({ roomId: 'r', ...data })}\n\n`;
    this.stream.enqueue(new TextEncoder().encode(text));
  }

  count(path) {
    return this.calls.filter((call) => call.path.endsWith(path)).length;
  }
}

let clock, server;
beforeEach(() => {
  clock = new Clock();
  server = new Server();
  Connection.all = [];
});

async function joined() {
  const room = new Room('r', { session: 's' });
  await room.join({ displayName: 'a' });
  await until(() => room.signalling === 'open');
  return room;
}

// ---- what the host does ----------------------------------------------------------------------

test('who was muted by the host is heard again as their own button says', async () => {
  const room = await joined();
  const track = new Track('audio');
  await room.setTrack('microphone', track);
  const heard = () => [track.enabled, room.isMuted, room.self.audio && !room.self.muted];
  assert.deepEqual(heard(), [true, false, true]);
  const told = async (muted) => {
    server.say('participant-state', { participant: { ...server.self, audio: true, muted } });
    await until(() => room.self.muted === muted);
  };
  await told(true);
  assert.deepEqual(heard(), [false, false, false]);
  await told(false);
  assert.deepEqual(heard(), [true, false, true]);
  await told(true);
  room.setMuted(true);
  await told(false);
  assert.deepEqual(heard(), [false, true, false], 'and not heard where they turned it off meanwhile');
});

// ---- what is sent ----------------------------------------------------------------------------

/** What a sender of the only connection is told. */
const encoding = (at) => Connection.all[0].transceivers[at].sender.parameters;

test('what else a camera was asked for stays when it is to deliver another picture', async () => {
  server.limits = { videoMaxHeight: 1080, videoMaxFps: 30 };
  const room = await joined();
  const track = new Track('video', { width: 1280, height: 720 });
  track.applied.push({ deviceId: { exact: 'front' }, backgroundBlur: true, height: { ideal: 720 } });
  await room.setTrack('camera', track);
  Connection.all[0].channels[0].onmessage({ data: JSON.stringify({ view: { camera: { width: 1920, height: 1080 } } }) });
  await settled();
  const { deviceId, backgroundBlur, height } = track.applied.at(-1);
  assert.deepEqual([deviceId, backgroundBlur, height], [{ exact: 'front' }, true, { ideal: 1080 }]);
});

test('with little data less is sent at once, and asked for at the next telling; music takes more', async () => {
  const room = await joined();
  await room.setTrack('camera', new Track('video', { width: 1280, height: 720 }));
  await room.setTrack('microphone', new Track('audio'));
  const sent = () => [encoding(0), encoding(1)].map(({ encodings }) => encodings[0].maxBitrate);
  await settled();
  assert.deepEqual(sent(), [48_000, 2_000_000]);
  room.setMusic(true);
  await settled();
  assert.equal(sent()[0], 128_000);
  let told = 0;
  room.on('self', () => (told += 1));
  room.setData('low');
  await settled();
  assert.deepEqual([...sent(), told], [64_000, 120_000, 1]);
  const [control] = Connection.all[0].channels;
  control.become('open');
  const asked = () => JSON.parse(control.sent.at(-1)).view;
  const [other] = room.participants.filter(({ isSelf }) => !isSelf);
  const view = { camera: { width: 1280, height: 720 }, screen: null };
  room.setView(other, view);
  assert.deepEqual(asked(), { camera: { width: 360, height: 180 }, screen: null });
  room.setData('audio');
  room.setView(other, view);
  assert.deepEqual(asked(), { camera: null, screen: null });
});

test('a picture is scaled from what the camera delivers once it was told', async () => {
  server.limits = { videoMaxHeight: 1080, videoMaxFps: 30 };
  const room = await joined();
  const asked = [];
  room.on('capture', (capture) => asked.push(capture));
  const track = new Track('video', { width: 1280, height: 720 });
  let deliver;
  track.applyConstraints = async ({ height, width, frameRate }) => {
    await new Promise((resolve) => (deliver = resolve));
    track.settings = { width: width.ideal, height: height.ideal, frameRate: frameRate.ideal };
  };
  await room.setTrack('camera', track);
  const shows = async (view) => {
    Connection.all[0].channels[0].onmessage({ data: JSON.stringify({ view }) });
    await settled();
    return encoding(1).encodings[0];
  };
  assert.equal((await shows({ camera: { width: 1900, height: 1000 } })).maxBitrate, 4_000_000);
  deliver();
  await settled();
  assert.deepEqual([track.settings.height, encoding(1).encodings[0].scaleResolutionDownBy], [1080, 1]);
  assert.equal((await shows({ camera: { width: 960, height: 540 } })).scaleResolutionDownBy, 2);
  deliver();
  await settled();
  assert.equal(encoding(1).encodings[0].scaleResolutionDownBy, 720 / 540);
  assert.deepEqual(asked, [{ height: 1080, fps: 30 }, { height: 720, fps: 30 }]);
  track.settings = { width: 540, height: 540 }; // a virtual camera changes by itself
  await clock.run(2_000);
  assert.equal(encoding(1).encodings[0].scaleResolutionDownBy, 1);
});

test('a shared screen is sent sharp, or smooth where it shows a film', async () => {
  server.limits = { videoMaxHeight: 720, videoMaxFps: 60 };
  const room = await joined();
  const screen = new Track('video', { width: 2560, height: 1440 });
  await room.setTrack('screen', screen);
  const sent = () => {
    const { encodings, degradationPreference } = encoding(2);
    const [{ maxFramerate, scaleResolutionDownBy }] = encodings;
    return [screen.contentHint, screen.applied.at(-1).frameRate.ideal, maxFramerate, scaleResolutionDownBy, degradationPreference];
  };
  assert.deepEqual(sent(), ['detail', 15, 15, 1, 'maintain-resolution']);
  room.setScreenContent('motion');
  await settled();
  assert.deepEqual(sent(), ['motion', 60, 60, 1, 'balanced']);
  const other = new Track('video');
  await room.setTrack('screen', other);
  assert.equal(other.contentHint, 'motion', 'as it was chosen');
});

// ---- what was missed, and what is over -------------------------------------------------------

test('what was said while one was taken for gone is told when one is back', async () => {
  const room = await joined();
  const missed = [];
  room.on('missed', (messages) => missed.push(...messages));
  assert.deepEqual([server.count('/chat'), missed], [0, []], 'not at the first join');
  server.chat = [{ messageId: 7, text: 'Lunch?' }];
  server.say('room-left', { connectionId: 'a-1', reason: 'connection lost' });
  server.self = person('z'); // no longer there
  const joins = server.count('/join');
  await until(() => server.count('/join') > joins);
  await until(() => missed.length);
  assert.deepEqual(missed, server.chat);
});

test('what was said is asked for where the stream could not resume', async () => {
  const room = await joined();
  const missed = [];
  room.on('missed', (messages) => missed.push(...messages));
  server.chat = [{ messageId: 8, text: 'Back?' }];
  server.say('reset', {});
  await until(() => missed.length);
  assert.deepEqual([missed, server.count('/join')], [server.chat, 1]);
});

test('who has loaded the page anew has no channel for a while, and that is told', async () => {
  const room = await joined();
  const [pc] = Connection.all;
  pc.channels[1].become('open');
  const told = [];
  room.on('channel', (one) => told.push([one.clientId, room.canSend(one)]));
  pc.channels[1].become('open');
  server.say('participant-joined', { participant: person('b', { connectionId: 'b-2' }) });
  await until(() => told.length > 1);
  assert.deepEqual(told, [['b', true], ['b', false]]);
  assert.equal(Connection.all.length, 2);
});

// ---- whether the stream is dead --------------------------------------------------------------

/** An offer to somebody whose answer doesn't come. */
async function offered(room) {
  const [pc] = Connection.all;
  await clock.run(5_000); // so long the other's is waited for
  assert.equal(pc.signalingState, 'have-local-offer');
  pc.become('connected'); // else it is tried again
  return room;
}

/** Let time pass on a page that is so late with everything. */
async function starved(seconds, late, act = () => {}) {
  for (const end = clock.now + seconds * 1_000; clock.now < end; ) {
    clock.stall(late);
    act();
    await clock.run(1);
  }
}

/** Let time pass in which the stream brings pings alone. */
async function idle(seconds) {
  for (let passed = 0; passed < seconds; passed += 20) {
    server.say('ping', {});
    await clock.run(20_000);
  }
}

test('a stream that brings something is not opened anew because somebody is slow to answer', async () => {
  await offered(await joined());
  for (let second = 0; second < 120; second += 1) {
    if (second % 3 === 0) server.say('participant-state', { participant: server.people[0] });
    await clock.run(1_000);
  }
  assert.equal(server.streams.length, 1);
});

test('an idle stream is not opened anew because others are slow to answer, connected or not', async () => {
  server.people = ['b', 'c', 'd'].map((name) => person(name));
  await joined();
  await idle(120);
  const [first, ...others] = Connection.all;
  assert.deepEqual(others.map((pc) => pc.signalingState), ['have-local-offer', 'have-local-offer']);
  first.become('connected');
  await idle(120);
  assert.equal(server.streams.length, 1);
});

test('a stream that brings nothing when an answer is due is opened anew where the way was lost', async () => {
  await joined();
  await clock.run(3_500);
  server.say('ping', {});
  await clock.run(0);
  const [pc] = Connection.all;
  pc.become('connected');
  await clock.run(1_500);
  pc.become('disconnected');
  assert.deepEqual([server.streams.length, pc.signalingState], [1, 'have-local-offer']);
  await clock.run(5_000);
  assert.equal(server.streams.length, 2);
});

test('a way that is lost while another lives says nothing of the stream', async () => {
  server.people = ['b', 'c'].map((name) => person(name));
  await joined();
  await clock.run(10_000);
  const [one, other] = Connection.all;
  for (const pc of [one, other]) pc.become('connected');
  one.become('disconnected');
  await idle(60);
  assert.equal(server.streams.length, 1);
  other.become('disconnected');
  await settled();
  assert.equal(server.streams.length, 2);
});

test('a call that is answered at once after others came to nothing tells that the network was away', async () => {
  await joined();
  let took = Infinity;
  server.wait = async ({ path }) => {
    if (!path.endsWith('/state')) return;
    if (took === Infinity) throw new TypeError('Failed to fetch');
    await new Promise((resolve) => setTimeout(resolve, took));
  };
  await clock.run(10_000);
  took = 3_000;
  await clock.run(15_000);
  assert.equal(server.streams.length, 1, 'that one was late');
  took = Infinity;
  await clock.run(10_000);
  took = 100;
  await clock.run(10_000);
  assert.equal(server.streams.length, 2);
});

test('a page whose timers are late takes no stream for dead that is only late', async () => {
  await joined();
  const pings = () => clock.now % 20_000 < 1_500 && server.say('ping', {});
  await starved(10, 1_500, pings);
  const [pc] = Connection.all;
  assert.equal(pc.signalingState, 'have-local-offer');
  pc.become('connected');
  await starved(240, 1_500, pings);
  assert.equal(server.streams.length, 1);
});

test('patience ends soon after a page is on time again, and a sleep is no reason for more', async () => {
  const room = await joined();
  await clock.run(1_000);
  assert.equal(room.slack, 0);
  await starved(10, 1_000);
  assert.ok(room.slack > 5_000, `${room.slack}`);
  await clock.run(3_000);
  assert.equal(room.slack, 0);
  clock.stall(3_600_000);
  await clock.run(300);
  assert.equal(room.slack, 0);
});

test('an attempt to open the stream that is under way is not ended by the next one', async () => {
  const room = await joined();
  const hold = new Promise(() => {});
  server.open = () => hold;
  const began = () => server.count('events');
  server.stream.close(); // its server has ended
  await until(() => room.signalling === 'reconnecting');
  assert.equal(room.hurry(5_000), true, 'while the next one is only waited for');
  await until(() => began() === 2);
  await clock.run(3_000);
  assert.deepEqual([room.hurry(5_000), began()], [false, 2]);
  await clock.run(3_000);
  assert.equal(room.hurry(5_000), true, 'what has had its time may be dead');
  await until(() => began() === 3);
  await starved(8, 2_000);
  assert.deepEqual([room.hurry(5_000), began()], [false, 3], 'a page that is late gives it longer');
});

test('of a page whose timers are late the server hears all the same', async () => {
  const { timeout } = AbortSignal;
  AbortSignal.timeout = (ms) => {
    const over = new AbortController();
    setTimeout(() => over.abort(new DOMException('', 'TimeoutError')), ms);
    return over.signal;
  };
  const room = await joined();
  await starved(8, 2_000);
  assert.ok(room.slack > 20_000);
  server.wait = ({ path }, signal) => path.endsWith('/state') && new Promise((_, reject) => signal.addEventListener('abort', reject));
  const before = server.count('/state');
  await starved(120, 2_000);
  const told = server.count('/state') - before;
  assert.ok(told >= 5, `${told} times in two minutes; who is unheard for one is gone`);
  AbortSignal.timeout = timeout;
});
