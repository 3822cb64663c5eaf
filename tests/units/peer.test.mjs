/** One media connection to one other (`static/js/peer.js`). */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Clock, settled } from './browser.mjs';
import { Connection, Track } from './webrtc.mjs';
import { Peer } from '../../static/js/peer.js';

let clock;
beforeEach(() => {
  clock = new Clock();
});

/** One side, with what it signals in the test's hands: `bring` lets the oldest reach the server. */
class Side {
  signals = [];
  unanswered = [];
  brings = [];
  isLate = false;

  constructor(polite) {
    const hooks = {
      signal: async (type, signal) => {
        this.signals.push({ type, signal: JSON.parse(JSON.stringify(signal)) });
        if (this.isLate) await new Promise((resolve) => this.brings.push(resolve));
      },
      canSignal: () => true,
      onUnanswered: (since) => this.unanswered.push([clock.now, since]),
    };
    for (const name of ['onLink', 'onStreams', 'onChannel', 'onView', 'onData']) hooks[name] = () => {};
    this.peer = new Peer({ polite, iceServers: [], hooks });
  }

  get pc() {
    return Connection.all.at(-1);
  }

  /** The browser wants a negotiation. */
  async offer() {
    this.pc.onnegotiationneeded();
    await settled();
    return this.last;
  }

  async take(signal) {
    this.peer.take(signal);
    await settled();
    return this.last;
  }

  get last() {
    return this.signals.at(-1)?.signal;
  }

  bring() {
    this.brings.shift()();
    return settled();
  }
}

/** What the other side says. */
const offered = (id) => ({ type: 'offer', sdp: 'v=0\r\na=ice-ufrag:theirs\r\n', id });
const answerTo = ({ id }, name = 'theirs') => ({ type: 'answer', sdp: `v=0\r\na=ice-ufrag:${name}\r\n`, id });

// ---- offers and their answers ----------------------------------------------------------------

test('an answer that comes before its offer is known to be brought ends the wait for it', async () => {
  const side = new Side(false);
  side.isLate = true;
  const offer = await side.offer();
  await side.take(answerTo(offer));
  await side.bring();
  await clock.run(60_000);
  assert.deepEqual(side.unanswered, []);
});

test('an offer that crossed, told twice, and brought late is not waited for', async () => {
  const side = new Side(true);
  await side.take(offered(1)); // the first one is the impolite one's
  side.isLate = true;
  await side.offer();
  side.peer.restart(); // tells it again
  await settled();
  await side.take(offered(2));
  for (let turn = 0; side.brings.length; turn += 1) await side.bring();
  assert.deepEqual(side.signals.map(({ type }) => type), ['answer', 'offer', 'offer', 'answer']);
  side.pc.become('connected');
  await clock.run(60_000);
  assert.deepEqual(side.unanswered, []);
});

test('an offer that stays without an answer is said at growing pauses', async () => {
  const side = new Side(false);
  const start = clock.now;
  await side.offer();
  side.pc.become('connected'); // else it is tried again
  await clock.run(65_000);
  assert.deepEqual(side.unanswered.map(([at]) => at - start), [5_000, 14_000, 31_000, 64_000]);
  assert.deepEqual(side.unanswered.map(([, since]) => since - start), [0, 5_000, 14_000, 31_000]);
});

test("an answer names its offer, and an earlier offer's is not taken for a later one's", async () => {
  const side = new Side(false);
  const first = await side.offer();
  side.peer.restart(); // the same offer again: the other side answers twice
  await settled();
  assert.deepEqual(side.last, first);
  await side.take(answerTo(first, 'one'));
  const second = await side.offer();
  assert.notEqual(second.id, first.id);
  await side.take(answerTo(first, 'again'));
  assert.equal(side.pc.signalingState, 'have-local-offer');
  await side.take(answerTo(second, 'two'));
  const taken = [['v=0\r\na=ice-ufrag:one\r\n', first.sdp], ['v=0\r\na=ice-ufrag:two\r\n', second.sdp]];
  assert.deepEqual(side.pc.answers, taken);
  const answer = await side.take(offered(7));
  assert.deepEqual([answer.type, answer.id], ['answer', 7]);
});

test('pages of before give no numbers', async () => {
  const side = new Side(false);
  await side.offer();
  await side.take(answerTo({}));
  assert.equal(side.pc.signalingState, 'stable');
  assert.equal((await side.take(offered())).type, 'answer');
});

// ---- media -----------------------------------------------------------------------------------

test('a new connection sends what is wanted, not what was sent before', async () => {
  const side = new Side(true);
  const [before, wanted] = [new Track('video'), new Track('video')];
  await side.peer.setTrack('camera', before);
  const { sender } = side.pc.transceivers[1];
  sender.wait = () => new Promise(() => {});
  void side.peer.setTrack('camera', wanted);
  await clock.run(5_000); // so long it waits for the other's offer
  assert.equal(side.last.type, 'offer');
  await side.take(offered(1));
  assert.notEqual(side.pc.transceivers[1].sender, sender);
  assert.equal(side.peer.sender('camera').track, wanted);
});

// ---- data ------------------------------------------------------------------------------------

test('what waits for space on the channel fails when the connection is closed', async () => {
  const side = new Side(false);
  const data = side.pc.channels[1];
  data.become('open');
  data.bufferedAmount = 2 ** 24;
  const sending = side.peer.send('piece');
  side.peer.close();
  await assert.rejects(Promise.race([sending, settled()]), /closed/);
});

// ---- candidates ------------------------------------------------------------------------------

test('candidates that are found while a signal is on its way go together', async () => {
  const side = new Side(false);
  side.isLate = true;
  await side.offer();
  for (const name of ['a', 'b', 'c']) side.pc.find(name);
  await settled();
  assert.equal(side.signals.length, 1);
  await side.bring();
  side.pc.find('d');
  await side.bring();
  const sent = side.signals.slice(1).map(({ type, signal }) => [type, signal.map(({ candidate }) => candidate)]);
  assert.deepEqual(sent, [['ice-candidate', ['a', 'b', 'c']], ['ice-candidate', ['d']]]);
});

test('so many candidates that one signal could not carry them go by several', async () => {
  const side = new Side(false);
  side.isLate = true;
  await side.offer();
  const names = Array.from({ length: 120 }, (_, at) => `c${at}`);
  for (const name of names) side.pc.find(name);
  side.isLate = false;
  await side.bring();
  const sent = side.signals.slice(1).map(({ signal }) => signal.map(({ candidate }) => candidate));
  assert.deepEqual([sent.map(({ length }) => length), sent.flat()], [[50, 50, 20], names]);
});

test('candidates are taken by one or together, and a bad one alone is lost', async () => {
  const side = new Side(false);
  await side.take([{ candidate: 'early' }]);
  await side.take(offered(1));
  await side.take({ candidate: 'single' });
  const warn = console.warn;
  console.warn = () => {};
  await side.take([{ candidate: 'bad' }, { candidate: 'good', usernameFragment: 'theirs' }]);
  await side.take([{ candidate: 'of another description', usernameFragment: 'other' }]);
  console.warn = warn;
  assert.deepEqual(side.pc.candidates, ['early', 'single', 'good']);
});
