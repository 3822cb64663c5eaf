/**
 * One media connection to one other participant (W3C WebRTC), by "perfect negotiation": either side
 * offers whenever it needs to; where two offers cross, the polite side rolls its own back.
 *
 * Both sides make the same four transceivers, one per role and in the same order, with `addTrack`:
 * so an offer of either side describes both (RFC 8829, 5.10), and turning a camera or a screen on
 * and off later is `replaceTrack` without a negotiation.
 */

import { refresh } from './encoder.js';

/** @typedef {'microphone' | 'camera' | 'screen' | 'screenAudio'} Role */
/** `failed`: there is no way between the two; it goes on trying. */
/** @typedef {'connecting' | 'connected' | 'interrupted' | 'failed'} Link */
/** @typedef {{ width: number, height: number }} Size in device pixels */
/** @typedef {{ camera?: Size | null, screen?: Size | null }} View how large a viewer shows it; null: not at all */
/**
 * @typedef {object} Hooks
 * @property {(type: 'offer' | 'answer' | 'ice-candidate', signal: unknown) => Promise<void>} signal
 *   brings it to the other side; resolves when the server has it
 * @property {() => boolean} canSignal
 * @property {() => void} onLink
 * @property {() => void} onStreams
 * @property {() => void} onChannel
 * @property {() => void} onView
 * @property {(since: number) => void} onUnanswered an offer stays without an answer, by performance.now()
 * @property {(data: string | ArrayBuffer) => void} onData
 */

/** @type {readonly Role[]} */
export const ROLES = ['microphone', 'camera', 'screen', 'screenAudio'];
/** @type {readonly Role[]} */
const PICTURES = ['camera', 'screen'];
/** @type {Record<Role, 'audio' | 'video'>} */
const KINDS = { microphone: 'audio', camera: 'video', screen: 'video', screenAudio: 'audio' };

const LOOK = 1_000; // ms between two looks at the connection
// Each time twice as long, as signals may be slow.
const DISCONNECTED = 5_000; // it often comes back by itself
const SLOW = 12_000; // neither connected nor failed
const HOPELESS = 15_000; // both know of each other, and nothing comes through
const UNANSWERED = 4_000; // each time twice as long: perhaps the other side is slow
const FIRST_OFFER = 4_000; // so long the polite one waits for the other's
const POLITENESS = 2_000;
const SETTLE = 500; // after the network's return: the other's offer may wait at the server
const MOST_WAIT = 30_000; // between two attempts
const MOST_HELD = 200; // candidates that wait for their description
const BATCH = 50; // candidates in a signal
const BUFFERED = 1 << 20; // bytes on their way on the data channel

/** @type {RTCPeerConnection | undefined} */
let blankMaker;

/** A track without content: `addTrack` wants one. @param {'audio' | 'video'} kind */
function blankTrack(kind) {
  blankMaker ??= new RTCPeerConnection();
  return blankMaker.addTransceiver(kind).receiver.track;
}

export class Peer {
  /** @type {Link} */
  link = 'connecting';
  /** What comes, by role; missing until it is negotiated. @type {Partial<Record<Role, MediaStream>>} */
  streams = {};
  /** How large the other side shows what we send. @type {View} */
  view = {};
  #hooks;
  #polite;
  #pc;
  #iceServers;
  // What belongs to the connection, and is made with it.
  /** @type {Record<Role, RTCRtpTransceiver>} */
  #transceivers = /** @type {any} */ (undefined);
  /** @type {RTCDataChannel} */
  #control = /** @type {any} */ (undefined);
  /** @type {RTCDataChannel} */
  #data = /** @type {any} */ (undefined);
  #making = false;
  #answerPending = false;
  #ignoring = false;
  #closed = false;
  /** One signal after the other, in and out. */
  #taking = Promise.resolve();
  #sending = Promise.resolve();
  /** Candidates of a description that hasn't come. @type {RTCIceCandidateInit[]} */
  #held = [];
  /** Own candidates whose turn to be sent hasn't come. @type {RTCIceCandidateInit[]} */
  #found = [];
  /** What is to be sent: a sender has it a moment later. @type {Partial<Record<Role, MediaStreamTrack | null>>} */
  #tracks = {};
  #wasConnected = false;
  #failures = 0;
  /** Restarts since it was connected. */
  #tries = 0;
  /** When both sides had described themselves, and it wasn't connected since. */
  #describedAt = 0;
  #made = performance.now();
  #since = performance.now();
  /**
   * The offer that waits for its answer, since it was brought; one that is over is let go, whatever
   * becomes of its way there. @type {{ id: number, since: number, patience: number } | undefined}
   */
  #open;
  /** Numbers of offers, unlike those of a connection before this one. */
  #lastOffer = Date.now();
  #shownView = '';
  #looking;
  /** A restart that is soon. @type {ReturnType<typeof setTimeout> | undefined} */
  #reviving;

  /**
   * @param {object} options
   * @param {boolean} options.polite of two peers exactly one is
   * @param {RTCIceServer[]} options.iceServers
   * @param {Hooks} options.hooks
   */
  constructor({ polite, iceServers, hooks }) {
    this.#hooks = hooks;
    this.#polite = polite;
    this.#iceServers = iceServers;
    this.#pc = this.#build();
    this.#looking = setInterval(() => this.#look(), LOOK);
  }

  /** A new connection with all that belongs to it. */
  #build() {
    const pc = new RTCPeerConnection({ iceServers: this.#iceServers, bundlePolicy: 'max-bundle' });
    this.#transceivers = makeTransceivers(pc);
    this.#control = pc.createDataChannel('control', { negotiated: true, id: 0 });
    this.#data = pc.createDataChannel('data', { negotiated: true, id: 1 });
    this.#wireChannels();
    pc.onnegotiationneeded = () => void this.#offer();
    pc.onicecandidate = ({ candidate }) => candidate && this.#gather(candidate.toJSON());
    pc.onconnectionstatechange = () => this.#follow();
    pc.ontrack = ({ track, transceiver }) => this.#receive(track, transceiver);
    return pc;
  }

  /**
   * Take a new connection in place of one whose first offer has crossed with the other's: Chromium
   * may roll its own back while it gathers candidates, and then never finds any.
   */
  #renew() {
    const before = this.#pc;
    before.onnegotiationneeded = before.onicecandidate = before.onconnectionstatechange = before.ontrack = null;
    this.#making = false;
    this.#pc = this.#build();
    for (const role of ROLES) void this.setTrack(role, this.#tracks[role] ?? null);
    before.close();
    this.#hooks.onView(); // the new senders have no limits yet
  }

  close() {
    this.#closed = true;
    clearInterval(this.#looking);
    clearTimeout(this.#reviving);
    this.#pc.close();
    this.#data.dispatchEvent(new Event('close')); // browsers tell of it only what the other side closes
  }

  // ---- media ---------------------------------------------------------------------------------

  /** @param {Role} role */
  sender(role) {
    return this.#transceivers[role].sender;
  }

  /** @param {Role} role */
  receiver(role) {
    return this.#transceivers[role].receiver;
  }

  /**
   * Send another track in a role, or nothing; needs no negotiation.
   * @param {Role} role
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(role, track) {
    this.#tracks[role] = track;
    if (!this.#closed) await this.sender(role).replaceTrack(track);
  }

  /** @param {MediaStreamTrack} track @param {RTCRtpTransceiver} transceiver */
  #receive(track, transceiver) {
    const role = ROLES.find((each) => this.#transceivers[each] === transceiver);
    if (!role || this.streams[role]?.getTracks().includes(track)) return;
    this.streams[role] = new MediaStream([track]);
    this.#hooks.onStreams();
  }

  /** Let what comes in a role be heard or seen, or not. @param {Role} role @param {boolean} allowed */
  allow(role, allowed) {
    const { track } = this.receiver(role);
    if (track.enabled !== allowed) track.enabled = allowed;
  }

  /** The descriptions in force, one's own first. */
  get descriptions() {
    const { currentLocalDescription, currentRemoteDescription } = this.#pc;
    return [currentLocalDescription?.sdp, currentRemoteDescription?.sdp];
  }

  stats() {
    return this.#pc.getStats();
  }

  // ---- negotiation ---------------------------------------------------------------------------

  /**
   * The first offer is the impolite one's, so that two seldom cross before there is a connection.
   */
  get #waitsForOffer() {
    return this.#polite && !this.#pc.remoteDescription && performance.now() - this.#made < FIRST_OFFER;
  }

  async #offer() {
    if (this.#waitsForOffer) return;
    const pc = this.#pc;
    this.#making = true;
    try {
      await pc.setLocalDescription();
      if (this.#pc !== pc || pc.signalingState !== 'have-local-offer') return;
      this.#open = { id: (this.#lastOffer += 1), since: Infinity, patience: UNANSWERED };
      this.#tell();
    } catch (error) {
      this.#fault(error);
    } finally {
      if (this.#pc === pc) this.#making = false;
    }
  }

  /** Send the local description; an answer has its offer's number. @param {number} [id] */
  #tell(id = this.#open?.id) {
    const { localDescription } = this.#pc;
    if (!localDescription) return;
    const { type, sdp } = localDescription;
    const open = this.#open;
    const sent = this.#signal(/** @type {'offer' | 'answer'} */ (type), () => ({ type, sdp, id }));
    if (type === 'offer' && open) void sent.then(() => (open.since = performance.now()));
  }

  /** What is found while others are on their way goes with the next signal. @param {RTCIceCandidateInit} candidate */
  #gather(candidate) {
    if (this.#found.push(candidate) % BATCH !== 1) return;
    void this.#signal('ice-candidate', () => this.#found.splice(0, BATCH));
  }

  /** @param {'offer' | 'answer' | 'ice-candidate'} type @param {() => unknown} content when its turn has come */
  #signal(type, content) {
    const send = () => (this.#closed ? undefined : this.#hooks.signal(type, content()));
    return (this.#sending = this.#sending.then(send).catch((error) => this.#fault(error)));
  }

  /** What the other side signals, in the order in which it comes: a description, a candidate, or several. @param {any} signal */
  take(signal) {
    const act = () => (signal.sdp === undefined ? this.#takeCandidates([signal].flat()) : this.#takeDescription(signal));
    this.#taking = this.#taking.then(() => (this.#closed ? undefined : act()));
    this.#taking = this.#taking.catch((error) => this.#fault(error));
  }

  /** @param {RTCSessionDescriptionInit & { id?: number }} description pages of before give no `id` */
  async #takeDescription(description) {
    const { id, type } = description;
    const isAnswer = type === 'answer';
    const state = this.#pc.signalingState;
    // To an offer sent twice, or taken back.
    if (isAnswer && (state !== 'have-local-offer' || (id && id !== this.#open?.id))) return;
    const crosses = !isAnswer && (this.#making || (state !== 'stable' && !this.#answerPending));
    this.#ignoring = crosses && !this.#polite;
    if (this.#ignoring) return;
    if (!isAnswer) clearTimeout(this.#reviving);
    if (crosses && !this.#pc.remoteDescription) this.#renew();
    const pc = this.#pc;
    this.#answerPending = isAnswer;
    try {
      await pc.setRemoteDescription(description); // rolls an offer of ours back
    } finally {
      this.#answerPending = false;
    }
    this.#open = undefined;
    if (!isAnswer) {
      await pc.setLocalDescription();
      this.#tell(id);
    }
    await this.#takeCandidates(this.#held.splice(0));
  }

  /** One that is no good is not the others' fault. @param {RTCIceCandidateInit[]} candidates */
  async #takeCandidates(candidates) {
    for (const candidate of candidates) {
      if (this.#isOfRemote(candidate)) {
        await this.#pc.addIceCandidate(candidate).catch((error) => this.#ignoring || this.#fault(error));
      } else {
        this.#held = [...this.#held.slice(1 - MOST_HELD), candidate];
      }
    }
  }

  /** Whether the description that a candidate belongs to is in force. @param {RTCIceCandidateInit} candidate */
  #isOfRemote({ usernameFragment: name }) {
    const { remoteDescription } = this.#pc;
    return Boolean(remoteDescription && (!name || remoteDescription.sdp.includes(`a=ice-ufrag:${name}\r`)));
  }

  /** A call that came too late for a connection that is closed is no fault. @param {unknown} error */
  #fault(error) {
    if (!this.#closed) console.warn('peer:', error);
  }

  // ---- the connection's state ----------------------------------------------------------------

  #follow() {
    const { connectionState: state } = this.#pc;
    if (state === 'connected') {
      if (this.#wasConnected) for (const role of PICTURES) void refresh(this.sender(role));
      this.#wasConnected = true;
      this.#failures = this.#tries = 0;
      this.#describedAt = 0;
      this.#enter('connected');
    } else if (state === 'disconnected') {
      this.#enter('interrupted');
    } else if (state === 'failed') {
      this.#failures += 1;
      this.#enter(this.#wasConnected && this.#failures < 2 ? 'interrupted' : 'failed');
    }
    this.#since = performance.now();
    this.#look();
  }

  /** @param {Link} link */
  #enter(link) {
    if (this.link === link) return;
    this.link = link;
    this.#hooks.onLink();
  }

  /** What isn't connected is tried again, sooner or later. */
  #look() {
    const now = performance.now();
    const { remoteDescription, localDescription } = this.#pc;
    if (this.#polite && !remoteDescription && !localDescription && !this.#making) void this.#offer();
    const open = this.#open;
    if (open && now - open.since > open.patience) {
      this.#hooks.onUnanswered(open.since);
      open.since = now;
      open.patience *= 2;
    }
    const { connectionState: state } = this.#pc;
    if (state === 'connected' || state === 'closed' || !this.#hooks.canSignal()) return;
    if (!this.#wasConnected && remoteDescription && localDescription) {
      this.#describedAt ||= now;
      if (now - this.#describedAt > HOPELESS) this.#enter('failed');
    }
    if (now - this.#since >= this.#waitIn(state)) this.restart();
  }

  /** The polite one waits longer, so that offers seldom cross. @param {RTCPeerConnectionState} state */
  #waitIn(state) {
    return this.#patienceIn(state) + (this.#polite ? POLITENESS : 0);
  }

  /** @param {RTCPeerConnectionState} state @returns {number} ms */
  #patienceIn(state) {
    if (state !== 'failed') return (state === 'disconnected' ? DISCONNECTED : SLOW) * 2 ** Math.min(3, this.#tries);
    return this.#failures < 2 ? 0 : Math.min(MOST_WAIT, 1_000 * 2 ** this.#failures);
  }

  /** New ways are looked for (ICE restart); or, where an offer is on its way, it is sent again. */
  restart() {
    if (this.#closed) return;
    this.#since = performance.now();
    this.#tries += 1;
    if (this.#pc.signalingState === 'have-local-offer') this.#tell();
    else this.#pc.restartIce();
  }

  /**
   * Signalling, or the network, is back: try what isn't connected in a moment, by itself or by the
   * other's offer. Two offers that cross cost a part of the sound: Chromium begins its streams anew.
   * @param {boolean} mayDiffer the network may be another one, which a connection notices late
   */
  revive(mayDiffer) {
    const isConnected = this.link === 'connected';
    if (isConnected && !mayDiffer) return;
    clearTimeout(this.#reviving);
    const act = () => (isConnected || this.link !== 'connected') && this.restart();
    this.#reviving = setTimeout(act, this.#polite ? SETTLE * 2 : SETTLE);
  }

  /** What the next look for ways uses; the one in use stays. @param {RTCIceServer[]} iceServers */
  setServers(iceServers) {
    this.#iceServers = iceServers;
    if (!this.#closed) this.#pc.setConfiguration({ ...this.#pc.getConfiguration(), iceServers });
  }

  // ---- data ----------------------------------------------------------------------------------

  #wireChannels() {
    const data = this.#data;
    data.binaryType = 'arraybuffer';
    data.bufferedAmountLowThreshold = BUFFERED / 4;
    data.onopen = data.onclose = () => this.#closed || this.#hooks.onChannel();
    data.onmessage = ({ data: content }) => this.#hooks.onData(content);
    this.#control.onopen = () => this.#sendView();
    this.#control.onmessage = ({ data: content }) => this.#takeControl(String(content));
  }

  get canSend() {
    return this.#data.readyState === 'open';
  }

  /**
   * Resolves when there is space for more.
   * @param {string | ArrayBuffer} content
   */
  async send(content) {
    const data = this.#data;
    if (typeof content === 'string') data.send(content);
    else data.send(content);
    if (data.bufferedAmount <= BUFFERED) return;
    await new Promise((resolve, reject) => {
      const over = new AbortController();
      const { signal } = over;
      /** @param {() => void} act */
      const then = (act) => () => (over.abort(), act());
      data.addEventListener('bufferedamountlow', then(() => resolve(undefined)), { signal });
      data.addEventListener('close', then(() => reject(new Error('the data channel closed'))), { signal });
    });
  }

  /** Tell how large we show what comes. @param {View} view */
  show(view) {
    this.#shownView = JSON.stringify({ view });
    this.#sendView();
  }

  #sendView() {
    if (this.#shownView && this.#control.readyState === 'open') this.#control.send(this.#shownView);
  }

  /** @param {string} text of a peer, so of anybody */
  #takeControl(text) {
    if (text.length > 1_000) return;
    const { view } = JSON.parse(text);
    this.view = { camera: sizeOf(view?.camera), screen: sizeOf(view?.screen) };
    this.#hooks.onView();
  }
}

/** One for each role. @param {RTCPeerConnection} pc */
function makeTransceivers(pc) {
  const made = /** @type {Record<Role, RTCRtpTransceiver>} */ ({});
  for (const role of ROLES) {
    const sender = pc.addTrack(blankTrack(KINDS[role]));
    const transceiver = pc.getTransceivers().find((each) => each.sender === sender);
    made[role] = /** @type {RTCRtpTransceiver} */ (transceiver);
  }
  for (const role of ROLES) void made[role].sender.replaceTrack(null);
  for (const role of /** @type {Role[]} */ (['camera', 'screen'])) preferVp8(made[role]);
  return made;
}

/** @param {any} size @returns {Size | null | undefined} */
function sizeOf(size) {
  if (size === null) return null;
  const { width, height } = size ?? {};
  return width > 0 && height > 0 ? { width, height } : undefined;
}

/** Every browser has it, and it is the one that all pairs agree on. @param {RTCRtpTransceiver} transceiver */
function preferVp8(transceiver) {
  const all = RTCRtpReceiver.getCapabilities?.('video')?.codecs ?? [];
  const isVp8 = (/** @type {{ mimeType: string }} */ codec) => codec.mimeType.toLowerCase() === 'video/vp8';
  const sorted = [...all.filter(isVp8), ...all.filter((codec) => !isVp8(codec))];
  if (sorted.length && transceiver.setCodecPreferences) transceiver.setCodecPreferences(sorted);
}
