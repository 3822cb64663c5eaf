/** How good a media connection is, from its statistics (`static/js/quality.js`). */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { put } from './browser.mjs';
import { Meter, UNKNOWN } from '../../static/js/quality.js';

const WINDOW = 6; // samples that a judgement is of
const STEP = 2_000; // ms between two of them

let now = 0;
put('performance', { now: () => now });

/** A connection's counters, which go on as those of a browser do. */
let counted = {};
beforeEach(() => {
  counted = { lost: 0, received: 0, bytes: 0, sent: 0, missed: 0 };
});

/** The statistics of this moment, as W3C webrtc-stats names them. */
function report({ rttMs = 20, jitter = 0, limited = 'none', pair = {}, rows = [] } = {}) {
  const { lost, received, bytes, sent, missed } = counted;
  const way = { localCandidateId: 'mine', remoteCandidateId: 'theirs', currentRoundTripTime: rttMs / 1_000 };
  const all = [
    { id: 'in', type: 'inbound-rtp', packetsLost: lost, packetsReceived: received, bytesReceived: bytes, jitter },
    { id: 'out', type: 'outbound-rtp', packetsSent: sent, qualityLimitationReason: limited },
    { id: 'told', type: 'remote-inbound-rtp', localId: 'out', packetsLost: missed },
    { id: 'transport', type: 'transport', selectedCandidatePairId: 'pair' },
    { id: 'pair', type: 'candidate-pair', ...way, ...pair },
    { id: 'mine', type: 'local-candidate', candidateType: 'host' },
    { id: 'theirs', type: 'remote-candidate', candidateType: 'srflx' },
    ...rows,
  ];
  return new Map(all.map((row) => [row.id, row]));
}

/** Let a time pass in which so much comes and goes, and take its statistics. */
function pass(meter, change = {}, more = {}) {
  now += STEP;
  for (const [name, value] of Object.entries({ received: 1_000, sent: 1_000, bytes: 500_000, ...change })) {
    counted[name] += value;
  }
  return meter.take(report(more));
}

/** The last of several such times, so many that nothing before them counts. */
function last(meter, change, more) {
  for (let turn = 0; turn < WINDOW; turn += 1) pass(meter, change, more);
  return meter.quality;
}

test('nothing is wrong with what nothing is known of', () => {
  assert.deepEqual(new Meter().quality, UNKNOWN);
  assert.deepEqual(UNKNOWN, { level: 'good', reason: '', rttMs: 0, loss: 0, kbps: 0, relayed: false });
  const quality = new Meter().take(new Map());
  assert.deepEqual(quality, UNKNOWN);
});

test('loss is poor from two percent on, and good again below one', () => {
  const meter = new Meter();
  assert.equal(last(meter, { lost: 15, received: 985 }).level, 'good');
  assert.equal(last(meter, { lost: 20, received: 980 }).reason, 'loss');
  const between = last(meter, { lost: 15, received: 985 });
  assert.deepEqual([between.level, between.reason], ['poor', 'loss']);
  assert.equal(between.loss, 0.015);
  assert.equal(last(meter, { lost: 10, received: 990 }).level, 'poor');
  const over = last(meter, { lost: 9, received: 991 });
  assert.deepEqual([over.level, over.reason], ['good', '']);
});

test('delay is poor from 400 ms on, and good again below 300', () => {
  const meter = new Meter();
  const said = [399, 400, 350, 300, 299, 350].map((rttMs) => pass(meter, {}, { rttMs }));
  assert.deepEqual(
    said.map(({ level }) => level),
    ['good', 'poor', 'poor', 'poor', 'good', 'good'],
  );
  assert.deepEqual([said[1].reason, said[1].rttMs, said[4].reason], ['delay', 400, '']);
});

test('jitter is poor from 100 ms on, and good again below 50; the worst track counts', () => {
  const meter = new Meter();
  const said = [0.099, 0.1, 0.07, 0.05, 0.049, 0.07].map((jitter) => {
    const rows = [{ id: 'more', type: 'inbound-rtp', jitter: 0.001 }];
    return pass(meter, {}, { jitter, rows }).reason;
  });
  assert.deepEqual(said, ['', 'jitter', 'jitter', 'jitter', '', '']);
});

test('a picture that is not sent for the moment says nothing of the line', () => {
  const meter = new Meter();
  const camera = (ago) => [{ id: 'camera', type: 'inbound-rtp', jitter: 0.2, timestamp: now + STEP, lastPacketReceivedTimestamp: now + STEP - ago }];
  assert.equal(pass(meter, {}, { rows: camera(100) }).reason, 'jitter');
  assert.equal(pass(meter, {}, { rows: camera(5_000) }).reason, '');
});

test('loss is told before delay, and delay before jitter', () => {
  const meter = new Meter();
  const all = { rttMs: 500, jitter: 0.5 };
  assert.equal(last(meter, { lost: 100, received: 900 }, all).reason, 'loss');
  assert.equal(last(meter, {}, all).reason, 'delay');
  assert.equal(last(meter, {}, { ...all, rttMs: 350 }).reason, 'delay', 'it is not over');
  assert.equal(last(meter, {}, { ...all, rttMs: 20 }).reason, 'jitter');
  assert.equal(last(meter, {}, { rttMs: 350 }).reason, '', 'that was another trouble');
});

test('of both directions the worse one counts', () => {
  const meter = new Meter();
  const quality = last(meter, { missed: 50, lost: 5 });
  assert.deepEqual([quality.reason, quality.loss], ['loss', 0.05]);
});

test('loss is of the last samples, not of the whole call', () => {
  const meter = new Meter();
  for (let turn = 0; turn < 50; turn += 1) pass(meter);
  const levels = [];
  for (let turn = 0; turn < WINDOW; turn += 1) levels.push(pass(meter, { lost: 60, received: 940 }).level);
  assert.deepEqual([levels[0], levels.at(-1)], ['good', 'poor'], 'two percent of the window');
  for (let turn = 0; turn < WINDOW; turn += 1) pass(meter);
  assert.deepEqual([meter.quality.level, meter.quality.loss], ['good', 0]);
});

test('too few packets say nothing', () => {
  const meter = new Meter();
  pass(meter);
  assert.equal(pass(meter, { received: 0, lost: 59, sent: 0 }).loss, 0);
  assert.equal(pass(meter, { received: 0, lost: 1, sent: 0 }).loss, 1);
});

test('counters that begin anew are not taken for loss, nor for a rate', () => {
  const meter = new Meter();
  last(meter, { lost: 100, received: 900 });
  assert.equal(meter.quality.level, 'poor');
  counted = { lost: 0, received: 0, bytes: 0, sent: 0, missed: 0 };
  const quality = pass(meter, { received: 100, bytes: 1_000 });
  assert.deepEqual([quality.level, quality.loss, quality.kbps], ['good', 0, 0]);
  assert.equal(pass(meter, { received: 100 }).loss, 0);
  assert.equal(pass(meter, { received: 100, lost: 50 }).reason, 'loss', 'what comes then counts');
});

test('packets that came twice are no loss below zero', () => {
  const meter = new Meter();
  const quality = last(meter, { lost: -5, missed: -5 });
  assert.deepEqual([quality.loss, quality.level], [0, 'good']);
});

test('what is lost after packets came twice is loss', () => {
  for (const lost of ['lost', 'missed']) {
    const meter = new Meter();
    pass(meter, { [lost]: -1_000, received: 2_000 });
    const quality = last(meter, { [lost]: 50, received: 950 });
    assert.deepEqual([quality.reason, quality.loss > 0.04], ['loss', true], lost);
  }
});

test('the rate is of what came since the sample before', () => {
  const meter = new Meter();
  assert.equal(pass(meter).kbps, 0);
  assert.equal(pass(meter, { bytes: 250_000 }).kbps, 1_000);
  assert.equal(pass(meter, { bytes: 0 }).kbps, 0);
});

test('a relay is recognised on either side of the way in use', () => {
  const relay = { id: 'relay', type: 'local-candidate', candidateType: 'relay' };
  const relayed = (pair, rows = [relay]) => pass(new Meter(), {}, { pair, rows }).relayed;
  assert.equal(relayed({}), false, 'one that is not in use');
  assert.equal(relayed({ localCandidateId: 'relay' }), true);
  assert.equal(relayed({ remoteCandidateId: 'relay' }), true);
  assert.equal(relayed({ localCandidateId: 'gone' }), false);
});

test('the way in use is found where no transport names it', () => {
  const way = { type: 'candidate-pair', currentRoundTripTime: 0.4 };
  const rttMs = (pair) => {
    const rows = [{ id: 'transport', type: 'transport' }, { id: 'other', ...way, ...pair }];
    return pass(new Meter(), {}, { rttMs: 20, pair: { state: 'waiting' }, rows }).rttMs;
  };
  assert.equal(rttMs({ selected: true }), 400, 'as Firefox says it');
  assert.equal(rttMs({ nominated: true, state: 'succeeded' }), 400);
  assert.equal(rttMs({ nominated: true, state: 'failed' }), 0);
  assert.equal(rttMs({ nominated: false, state: 'succeeded' }), 0);
});

test('an encoder that the machine holds back is told, one that the network holds back is not', () => {
  const meter = new Meter();
  const said = ['none', 'cpu', 'bandwidth'].map((limited) => {
    pass(meter, {}, { limited });
    return meter.isCpuLimited;
  });
  assert.deepEqual(said, [false, true, false]);
  assert.equal(meter.quality.level, 'good', 'it says nothing about the way');
});
