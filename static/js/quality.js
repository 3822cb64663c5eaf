/** How good a media connection is, from its statistics (W3C webrtc-stats). */

/**
 * @typedef {object} Quality
 * @property {'good' | 'poor' | 'lost'} level
 * @property {'' | 'loss' | 'delay' | 'jitter' | 'interrupted' | 'no-path' | 'cpu'} reason
 * @property {number} rttMs there and back
 * @property {number} loss the larger of both directions, 0 to 1
 * @property {number} kbps that come
 * @property {boolean} relayed through a TURN server
 */
/** @typedef {{ lost: number, all: number }} Count */
/** @typedef {{ at: number, bytes: number, incoming: Count, outgoing: Count }} Sample */

/** Bad from the first number on, good again below the second. */
const LOSS = [0.02, 0.01];
const DELAY_MS = [400, 300];
const JITTER_S = [0.1, 0.05];
const STILL_MS = 3_000;
const WINDOW = 6; // samples
const FEWEST = 60; // packets that say something

/** What the line is at fault for, not a machine. */
const OF_THE_LINE = ['loss', 'delay', 'jitter', 'interrupted'];

/** @type {Quality} */
export const UNKNOWN = { level: 'good', reason: '', rttMs: 0, loss: 0, kbps: 0, relayed: false };

/** The meter of one connection. */
export class Meter {
  quality = UNKNOWN;
  /** Whether an encoder is held back by this machine. */
  isCpuLimited = false;
  /** @type {Sample[]} */
  #samples = [];

  /** @param {RTCStatsReport} report @returns {Quality} */
  take(report) {
    const all = [...report.values()];
    const sample = sampleOf(all, report);
    if (this.#samples.some((before) => sample.bytes < before.bytes)) this.#samples = []; // counted anew
    this.#samples = [...this.#samples.slice(1 - WINDOW), sample];
    this.isCpuLimited = of(all, 'outbound-rtp').some((row) => row.qualityLimitationReason === 'cpu');
    const before = this.#samples[0];
    const last = this.#samples.at(-2) ?? sample;
    const loss = Math.max(share(sample.incoming, before.incoming), share(sample.outgoing, before.outgoing));
    const pair = nominated(all, report);
    const rttMs = (pair?.currentRoundTripTime ?? 0) * 1_000;
    const jitter = Math.max(0, ...of(all, 'inbound-rtp').filter((row) => !isStill(row)).map((row) => row.jitter ?? 0));
    const reason = this.#judge({ loss, rttMs, jitter });
    const kbps = ((sample.bytes - last.bytes) * 8) / Math.max(1, sample.at - last.at);
    const relayed = isRelay(report, pair?.localCandidateId) || isRelay(report, pair?.remoteCandidateId);
    this.quality = { level: reason ? 'poor' : 'good', reason, rttMs, loss, kbps, relayed };
    return this.quality;
  }

  /** @param {{ loss: number, rttMs: number, jitter: number }} found @returns {Quality['reason']} */
  #judge({ loss, rttMs, jitter }) {
    /** @param {Quality['reason']} reason @param {number} value @param {number[]} limits */
    const isBad = (reason, value, [bad, good]) => value >= (this.quality.reason === reason ? good : bad);
    if (isBad('loss', loss, LOSS)) return 'loss';
    if (isBad('delay', rttMs, DELAY_MS)) return 'delay';
    return isBad('jitter', jitter, JITTER_S) ? 'jitter' : '';
  }
}

/** @param {any[]} all @param {string} type @returns {any[]} */
const of = (all, type) => all.filter((row) => row.type === type);
/** What isn't sent for the moment, as nobody looks, keeps the jitter of its last packet. @param {any} row */
const isStill = ({ timestamp, lastPacketReceivedTimestamp }) => timestamp - lastPacketReceivedTimestamp > STILL_MS;
/** @param {any[]} rows @param {string} name */
const sum = (rows, name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);

/** @param {any[]} all @param {RTCStatsReport} report @returns {Sample} */
function sampleOf(all, report) {
  const incoming = of(all, 'inbound-rtp');
  const told = of(all, 'remote-inbound-rtp');
  const sent = told.map((row) => report.get(row.localId)).filter(Boolean);
  const lost = sum(incoming, 'packetsLost'); // below zero where packets came twice (RFC 3550, 6.4.1)
  return {
    at: performance.now(),
    bytes: sum(incoming, 'bytesReceived'),
    incoming: { lost, all: lost + sum(incoming, 'packetsReceived') },
    outgoing: { lost: sum(told, 'packetsLost'), all: sum(sent, 'packetsSent') },
  };
}

/** The part lost since then. @param {Count} now @param {Count} then */
function share(now, then) {
  const all = now.all - then.all;
  return all < FEWEST ? 0 : Math.max(0, Math.min(1, (now.lost - then.lost) / all));
}

/** The way in use. @param {any[]} all @param {RTCStatsReport} report @returns {any} */
function nominated(all, report) {
  const id = of(all, 'transport').find((row) => row.selectedCandidatePairId)?.selectedCandidatePairId;
  const isUsed = (/** @type {any} */ row) => row.selected || (row.nominated && row.state === 'succeeded');
  return report.get(id) ?? of(all, 'candidate-pair').find(isUsed);
}

/** @param {RTCStatsReport} report @param {string} [id] of a candidate */
const isRelay = (report, id) => Boolean(id && report.get(id)?.candidateType === 'relay');

/** @typedef {import('./room.js').Participant} Participant */

/** @param {Participant} person */
export const isOfTheLine = ({ quality: { level, reason } }) => level !== 'good' && OF_THE_LINE.includes(reason);

/** Whether most of the others, more than one, are badly connected: then it is one's own line. @param {Participant[]} people */
export function isOwnLine(people) {
  const others = people.filter(({ isSelf, link }) => !isSelf && link !== 'connecting');
  const bad = others.filter(isOfTheLine).length;
  return bad > 1 && bad * 2 > others.length;
}
