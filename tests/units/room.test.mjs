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
    await this.wait(call);
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
