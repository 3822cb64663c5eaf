/**
 * A video room: who is in it, what they send, and a media connection to each (`peer.js`). No DOM.
 *
 *     const room = new Room('standup');
 *     room.on('changed', (participant) => show(participant.streams.camera));
 *     await room.setTrack('camera', track);
 *     await room.join({ displayName: 'Ada' });
 *
 * Media goes on while the server, or the way to it, is away. Events: `phase`, `added`, `changed`,
 * `removed`, `self`, `info`, `waiting`, `chat`, `missed`, `reaction`, `data`, `channel`, `signalling`, `speaker`, `load`,
 * `capture`, `ended-track`; each is described where it is told.
 */
import { api, ApiError, ROOT } from './api.js';
import { cameraFor, captureFor, limit, limitAudio, linesOf, screenFor, screenFps, soundFor, viewFor } from './encoder.js';
import { Peer, ROLES } from './peer.js';
import { Meter, UNKNOWN } from './quality.js';
import { roomSession } from './roomsession.js';
import { connect } from './rt.js';

/** @typedef {'idle' | 'joining' | 'waiting' | 'joined' | 'left'} Phase */
/** @typedef {import('./peer.js').Role} Role */
/** @typedef {import('./peer.js').View} View */
/** @typedef {import('./quality.js').Quality} Quality */
/** @typedef {'ok' | 'many' | 'too-many'} Load */
/** @typedef {{ audio: MediaStream | null, camera: MediaStream | null, screen: MediaStream | null, screenAudio: MediaStream | null }} Streams */
/** @typedef {(argument: any, more?: any) => void} Listener */

const BEAT = 10_000; // ms between two signs of life
const SAMPLE = 2_000;
const LEVEL = 250;
const FADE = 0.8; // of the lateness is left after a look
const HOLD = 700; // how long somebody who pauses is the speaker
const LOUD = 0.02; // of 1
const PATIENCE = 5_000; // for the answer to a call, while this machine keeps up
const LONGEST_PAUSE = 5_000; // between two attempts
const SUSPECT_EVERY = 5_000;
const QUIET = 4_000; // in which a stream that lives may have brought nothing
const AT_ONCE = 1_000; // a call that took longer doesn't show that all is well again
const ON_TIME = 250; // ms that timers may be late where nothing is wrong
const SLACK = 20; // so many times as long as timers are late is waited more
const MOST_SLACK = 60_000;
const FRESH = 2_000; // an attempt that young began after the network's return
const MANY = 6;
const SOFT_LIMIT = 8;
const CPU_SAMPLES = 3; // in a row make a step down
const CALM_SAMPLES = 20; // in a row make a step up
const MOST_STEPS = 3;
const ICE_PART = 0.75; // of their time, after which credentials of a TURN server are asked for anew

/** Why one is no longer there, in the server's words and in ours. @type {Record<string, string>} */
const REASONS = { 'opened elsewhere': 'elsewhere' };
/** One was unheard, not sent away. */
const LOST = ['connection lost', 'node lost'];
/** Refusals of a join that say where one stands. @type {Record<string, string>} */
const REFUSALS = { not_found: 'ended', removed: 'removed' };

/** Somebody in the room; one object as long as they are there. */
export class Participant {
  clientId = '';
  connectionId = '';
  /** For the host's actions. */
  id = 0;
  displayName = '';
  /** @type {string | number | null} */
  userId = null;
  isHost = false;
  /** @type {'waiting' | 'connected' | 'reconnecting'} `reconnecting`: the server doesn't hear them */
  status = 'connected';
  joinedAt = '';
  /** What they say they send. */
  audio = false;
  video = false;
  screen = false;
  hand = false;
  /** Since when, by the server's clock. @type {string | null} */
  handAt = null;
  /** By the host; receivers obey. */
  muted = false;
  cameraOff = false;
  /** Loudness, 0 to 1. */
  level = 0;
  speaking = false;
  /** @type {Peer | undefined} */
  peer;
  meter = new Meter();
  heardAt = -Infinity;
  /** @type {Partial<Record<Role, MediaStream>>} */
  #own = {};

  /** @param {boolean} isSelf */
  constructor(isSelf) {
    this.isSelf = isSelf;
  }

  /** @returns {Streams} null: nothing to show or to play */
  get streams() {
    const from = this.isSelf ? this.#own : (this.peer?.streams ?? {});
    /** @param {Role} role */
    const stream = (role) => (this.sends(role) && from[role]) || null;
    return {
      audio: this.isSelf ? null : stream('microphone'),
      camera: stream('camera'),
      screen: stream('screen'),
      screenAudio: this.isSelf ? null : stream('screenAudio'),
    };
  }

  /** Whether what they send in a role may be heard or seen. @param {Role} role */
  sends(role) {
    if (role === 'microphone') return this.audio && !this.muted;
    if (role === 'camera') return this.video && !this.cameraOff;
    return this.screen && !(role === 'screen' ? this.cameraOff : this.muted);
  }

  /** @returns {import('./peer.js').Link} */
  get link() {
    return this.isSelf ? 'connected' : (this.peer?.link ?? 'connecting');
  }

  /** @returns {Quality} */
  get quality() {
    const { quality } = this.meter;
    if (this.link === 'failed') return { ...quality, level: 'lost', reason: 'no-path' };
    if (this.link === 'interrupted') return { ...quality, level: 'lost', reason: 'interrupted' };
    return quality;
  }

  /** For one's own picture. @param {Role} role @param {MediaStreamTrack | null} track */
  preview(role, track) {
    if (track) this.#own[role] = new MediaStream([track]);
    else delete this.#own[role];
  }
}

export class Room {
  /** @type {Phase} */
  phase = 'idle';
  /** Why one left: `left elsewhere removed denied ended refused` … */
  reason = '';
  /** What the API says of the room. @type {any} */
  info = {};
  /** @type {Participant | null} */
  self = null;
  /** In the lobby; told to hosts. @type {any[]} */
  waiting = [];
  /** @type {'connecting' | 'open' | 'reconnecting' | 'closed'} */
  signalling = 'closed';
  /** @type {Participant | null} */
  speaker = null;
  /** @type {Load} */
  load = 'ok';
  /** Whether this machine can't encode as much as is wanted. */
  isCpuLimited = false;
  isMuted = false;
  hand = false;
  /** What a shared screen shows: text that has to be read, or a film. @type {'detail' | 'motion'} */
  screenContent = 'detail';
  /** How much is sent and asked of the others. @type {import('./encoder.js').Data} */
  data = 'all';
  /** Whether the microphone's sound is music rather than speech. */
  isMusic = false;
  /** By clientId. @type {Map<string, Participant>} */
  #participants = new Map();
  /** @type {Map<string, Set<Listener>>} */
  #listeners = new Map();
  /** @type {Partial<Record<Role, MediaStreamTrack>>} */
  #tracks = {};
  /** @type {import('./rt.js').Page | undefined} */
  #rt;
  /** @type {{ displayName?: string, password?: string }} */
  #asked = {};
  /** @type {RTCIceServer[]} */
  #iceServers = [];
  /** When they are to be asked for anew, and when they end: by the clock, which goes on in sleep. */
  #ice = { due: Infinity, end: Infinity };
  #renewing = false;
  #limits = { maxHeight: 720, maxFps: 30 };
  /** Ends with the stay in the room. */
  #stay = new AbortController();
  #suspectedAt = 0;
  /** When the stream's last attempt began, or the next one will. */
  #begunAt = 0;
  /** Since when calls come to nothing. */
  #awayAt = Infinity;
  /** When the stream brought something. */
  #heardAt = 0;
  /** How late this page's timers are, in ms: twice in a row, as once may be a sleep. */
  #lateness = 0;
  #lastLate = 0;
  #listenedAt = 0;
  #steps = 0;
  #cpuRow = 0;
  #calmRow = 0;
  #lastState = '';
  #lastCapture = '';
  #doubting = false;
  /** Whether a join is on its way. */
  #arriving = false;
  #telling = Promise.resolve();

  /**
   * @param {string} roomId
   * @param {{ transport?: 'sse' | 'websocket', session?: string }} [options]
   */
  constructor(roomId, { transport = 'sse', session = roomSession(roomId) } = {}) {
    this.roomId = roomId;
    this.transport = transport;
    this.session = session;
  }

  // ---- events --------------------------------------------------------------------------------

  /** @param {string} name @param {Listener} listener */
  on(name, listener) {
    this.#listeners.set(name, (this.#listeners.get(name) ?? new Set()).add(listener));
    return this;
  }

  /** @param {string} name @param {Listener} listener */
  off(name, listener) {
    this.#listeners.get(name)?.delete(listener);
    return this;
  }

  /** @param {string} name @param {any} [argument] @param {any} [more] */
  #tell(name, argument, more) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(argument, more);
      } catch (error) {
        reportError(error); // one listener's fault is not the others'
      }
    }
  }

  // ---- the server ----------------------------------------------------------------------------

  /**
   * A call about this room. @throws {ApiError}
   * @param {string} method
   * @param {string} path below the room's, such as `/chat`
   * @param {Record<string, unknown>} [body]
   * @param {RequestInit} [more]
   */
  #call(method, path, body, more = {}) {
    const root = `api/video/rooms/${encodeURIComponent(this.roomId)}`;
    return this.#ask(method, root + path, body, more);
  }

  /** @param {string} method @param {string} path @param {Record<string, unknown>} [body] @param {RequestInit} [more] */
  async #ask(method, path, body, more = {}) {
    const headers = { 'X-Session': this.session };
    const signal = AbortSignal.timeout(PATIENCE + this.slack);
    const answer = await api(method, path, body, { signal, headers, ...more });
    if (this.signalling === 'reconnecting') this.#rt?.link.wake(); // the server is back
    return answer;
  }

  /** The room as the server shows it; also before joining. @throws {ApiError} */
  look() {
    return this.#call('GET', '');
  }

  // ---- coming and going ----------------------------------------------------------------------

  /**
   * Join, or wait in the lobby; after `left` once more.
   * @param {{ displayName?: string, password?: string }} [as] by default as before
   * @throws {ApiError}
   */
  async join(as = this.#asked) {
    this.#asked = as;
    this.#enter('joining');
    try {
      await this.#join();
    } catch (error) {
      if (this.phase === 'joining') this.#enter('idle');
      throw error;
    }
  }

  async #join() {
    const before = this.#stay;
    const isBack = this.phase === 'joined';
    const body = { session: this.session, ...this.#asked };
    this.#arriving = true;
    const joined = await this.#call('POST', '/join', body).finally(() => (this.#arriving = false));
    if (this.#stay !== before) return; // one has left meanwhile
    const stay = this.#newStay();
    this.#asked = { ...this.#asked, displayName: joined.participant.displayName };
    this.#connect(joined.lastEventId);
    this.#takeJoined(joined);
    this.#keepTime(stay);
    this.#enter(joined.status === 'waiting' ? 'waiting' : 'joined');
    this.#tellState(true);
    if (isBack) void this.#hearMissed();
  }

  /** @param {any} joined */
  #takeJoined({ participant, participants, room, waiting, videoMaxHeight = 720, videoMaxFps = 30, ...ice }) {
    this.#takeIce(ice);
    this.#limits = { maxHeight: videoMaxHeight, maxFps: videoMaxFps };
    this.waiting = waiting ?? [];
    if (room) this.info = room;
    this.#lastState = '';
    this.self ??= new Participant(true);
    const { audio, video, screen, hand, ...rest } = participant;
    Object.assign(this.self, rest);
    for (const role of ROLES) this.self.preview(role, this.#tracks[role] ?? null);
    this.#takeOwn();
    this.#reconcile(participants);
    this.#tell('info', this.info);
    this.#tell('waiting', this.waiting);
  }

  #newStay() {
    this.#stay.abort();
    this.#stay = new AbortController();
    return this.#stay.signal;
  }

  /** @param {Phase} phase @param {string} [reason] */
  #enter(phase, reason = '') {
    if (this.phase === phase) return;
    this.phase = phase;
    this.reason = reason;
    this.#tell('phase', phase);
  }

  async leave() {
    const call = this.#call('POST', '/leave', this.#me, { keepalive: true });
    this.#end('left');
    await call.catch(() => undefined); // who can't be reached will notice by itself
  }

  /** The page goes away, perhaps to come back: whoever doesn't is gone soon. */
  goSoon() {
    if (this.phase !== 'joined' && this.phase !== 'waiting') return;
    void this.#call('POST', '/leave', { ...this.#me, soon: true }, { keepalive: true }).catch(() => undefined);
  }

  /** @param {string} reason */
  #end(reason) {
    this.#newStay();
    this.#hangUp();
    for (const participant of [...this.#participants.values()]) this.#forget(participant, 'over');
    this.self = null;
    this.waiting = [];
    this.#enter('left', reason);
  }

  /** Who acts. */
  get #me() {
    return { session: this.session, connectionId: this.self?.connectionId };
  }

  /** Whether one is still in the room isn't clear: ask, and come back unless sent away. */
  async #doubt() {
    if (this.#doubting || !this.self) return;
    this.#doubting = true;
    const { signal } = this.#stay;
    try {
      for (let attempt = 0; !signal.aborted; attempt += 1) {
        if (await this.#settle()) return;
        await pause(attempt, signal);
      }
    } finally {
      this.#doubting = false;
    }
  }

  /** @returns {Promise<boolean>} whether it is clear now */
  async #settle() {
    const { signal } = this.#stay;
    try {
      const info = await this.look();
      if (signal.aborted) return true;
      const own = info.participants?.find((/** @type {any} */ row) => row.clientId === this.self?.clientId);
      if (own && own.connectionId !== this.self?.connectionId) this.#end('elsewhere');
      else if (own && this.phase === 'joined') await this.#catchUp(info, signal);
      else await this.#join();
      return true;
    } catch (error) {
      if (isPassing(error)) return false;
      this.#end(REFUSALS[/** @type {ApiError} */ (error).code] ?? 'refused');
      return true;
    }
  }

  /** One is still there; the stream has ended, or something was missed. @param {any} info @param {AbortSignal} signal */
  async #catchUp({ participants, waiting = [], ...info }, signal) {
    this.info = { ...this.info, ...info };
    this.#reconcile(participants);
    this.#setWaiting(waiting);
    this.#tell('info', this.info);
    void this.#hearMissed();
    if (this.signalling !== 'closed') return;
    await pause(3, signal);
    if (!signal.aborted) this.#rt?.retryNow();
  }

  // ---- what comes ----------------------------------------------------------------------------

  /** @param {string} since the position of the join: from there on nothing is missed */
  #connect(since) {
    this.#hangUp();
    const { session, transport } = this;
    const options = { session, transport, since, shared: false, attempts: Infinity };
    const rt = /** @type {import('./rt.js').Page} */ (connect(ROOT, options));
    this.#rt = rt;
    const heard = () => (this.#heardAt = performance.now());
    for (const name of ['connection', 'ping']) rt.on(name, heard);
    for (const [name, take] of Object.entries(this.#events)) {
      rt.on(name, (event) => heard() && this.#rt === rt && event.roomId === this.roomId && take(event));
    }
    for (const state of /** @type {const} */ (['connecting', 'open', 'reconnecting', 'closed'])) {
      rt.on(state, (detail) => this.#rt === rt && this.#follow(state, detail));
    }
    rt.on('reset', () => this.#rt === rt && void this.#doubt());
  }

  /** Without a word of it: what it says of its end is not for us. */
  #hangUp() {
    const rt = this.#rt;
    this.#rt = undefined;
    rt?.close();
    this.signalling = 'closed';
  }

  /** @param {Room['signalling']} state @param {any} detail */
  #follow(state, detail) {
    const wasOpen = this.signalling === 'open';
    this.signalling = state;
    this.#begunAt = performance.now() + (detail.delay ?? 0);
    this.#tell('signalling', state, detail);
    if (state === 'open' && !wasOpen) void this.#revive();
    if (state === 'closed') void this.#doubt(); // refused, or told not to come back
  }

  /** @type {Record<string, (event: any) => void>} */
  #events = {
    'participant-joined': ({ participant }) => this.#upsert(participant),
    'participant-state': ({ participant }) => this.#upsert(participant),
    'participant-left': (event) => this.#takeLeft(event),
    'participant-waiting': ({ participant }) => {
      const others = this.waiting.filter((row) => row.clientId !== participant.clientId);
      this.#setWaiting([...others, participant]);
    },
    'room-updated': ({ room }) => {
      this.info = { ...this.info, ...room };
      this.#tell('info', this.info);
    },
    'room-ended': () => this.#end('ended'),
    'room-left': (event) => this.#takeOut(event),
    'room-admitted': () => void this.#doubt(), // by joining again: now there is more to know
    'room-chat': (message) => this.#tell('chat', message),
    'room-reaction': ({ clientId, emoji }) => this.#tell('reaction', this.#participants.get(clientId), emoji),
    'webrtc-signal': (event) => this.#takeSignal(event),
  };

  /** @param {any} event */
  #takeOut({ connectionId, reason }) {
    if (connectionId !== this.self?.connectionId) return;
    if (reason === 'opened elsewhere' && this.#arriving) return; // that was this page
    if (LOST.includes(reason)) void this.#doubt();
    else this.#end(REASONS[reason] ?? reason);
  }

  /** @param {any} event */
  #takeSignal({ fromClientId, fromConnectionId, toConnectionId, signal }) {
    const from = this.#participants.get(fromClientId);
    if (toConnectionId !== this.self?.connectionId || fromConnectionId !== from?.connectionId) return;
    from?.peer?.take(signal);
  }

  // ---- who is there --------------------------------------------------------------------------

  /** In the order in which they joined; oneself included. */
  get participants() {
    const all = [...this.#participants.values(), ...(this.self ? [this.self] : [])];
    return all.sort((one, other) => one.joinedAt.localeCompare(other.joinedAt) || one.id - other.id);
  }

  get #others() {
    return [...this.#participants.values()];
  }

  get isHost() {
    return this.self?.isHost ?? false;
  }

  /** @param {any[]} rows of all who are there */
  #reconcile(rows) {
    const present = new Set(rows.map((row) => row.clientId));
    for (const one of this.#others) if (!present.has(one.clientId)) this.#forget(one, 'left');
    for (const row of rows) if (row.clientId !== this.self?.clientId) this.#upsert(row);
  }

  /** @param {any} row */
  #upsert(row) {
    this.#setWaiting(this.waiting.filter((one) => one.clientId !== row.clientId));
    if (row.clientId === this.self?.clientId) return this.#takeSelf(row);
    const known = this.#participants.get(row.clientId);
    const participant = known ?? new Participant(false);
    const isAnew = participant.connectionId !== row.connectionId;
    Object.assign(participant, row);
    this.#participants.set(row.clientId, participant);
    if (isAnew) this.#meet(participant);
    this.#obey(participant);
    this.#tell(known ? 'changed' : 'added', participant);
    if (!known) this.#recount();
  }

  /** @param {any} row */
  #takeSelf({ audio, video, screen, hand, ...row }) {
    const { self } = this;
    if (!self || row.connectionId !== self.connectionId) return;
    Object.assign(self, row);
    this.#takeOwn();
    this.#tell('changed', self);
    this.#tellState();
  }

  /** @param {any} event */
  #takeLeft({ clientId, connectionId, reason }) {
    this.#setWaiting(this.waiting.filter((row) => row.clientId !== clientId));
    const participant = this.#participants.get(clientId);
    if (participant && participant.connectionId === connectionId) this.#forget(participant, reason);
  }

  /** @param {Participant} participant @param {string} reason */
  #forget(participant, reason) {
    participant.peer?.close();
    this.#participants.delete(participant.clientId);
    this.#tell('removed', participant, reason);
    if (this.speaker === participant) this.#setSpeaker(null);
    this.#recount();
  }

  /** @param {any[]} waiting */
  #setWaiting(waiting) {
    if (waiting.length === this.waiting.length && waiting.every((row, at) => row === this.waiting[at])) return;
    this.waiting = waiting;
    this.#tell('waiting', waiting);
  }

  #recount() {
    const people = this.#participants.size + 1;
    const load = people > SOFT_LIMIT ? 'too-many' : people >= MANY ? 'many' : 'ok';
    const hasChanged = load !== this.load;
    this.load = load;
    if (hasChanged) this.#tell('load', load);
    this.#adapt();
  }

  // ---- media connections ---------------------------------------------------------------------

  /** A connection to a participant, in place of one to its page of before. @param {Participant} participant */
  #meet(participant) {
    const before = participant.peer;
    before?.close();
    const { clientId, connectionId } = participant;
    const mine = () => participant.connectionId === connectionId && participant.peer === peer;
    const changed = () => mine() && this.#tell('changed', participant);
    // Perhaps by the network of this machine: not while another connection lives, and not where
    // there was none yet, as the other may be late with everything.
    const lost = (/** @type {number} */ since) => {
      const lives = this.#others.some(({ link }) => link === 'connected');
      if (peer.link === 'interrupted' && !lives) this.#suspect(since);
    };
    /** @type {Peer} */
    const peer = new Peer({
      polite: (this.self?.clientId ?? '') < clientId,
      iceServers: this.#iceServers,
      hooks: {
        signal: (type, signal) => this.#signal({ type, signal, targetClientId: clientId, targetConnectionId: connectionId }, mine),
        canSignal: () => this.signalling === 'open' && Date.now() < this.#ice.end,
        onLink: () => {
          changed();
          lost(performance.now() - QUIET);
          if (peer.link === 'connected') this.hurry();
        },
        onStreams: () => {
          this.#obey(participant);
          changed();
        },
        onChannel: () => mine() && this.#tell('channel', participant),
        onView: () => this.#adapt(),
        onUnanswered: lost,
        onData: (data) => mine() && this.#tell('data', { from: participant, data }),
      },
    });
    participant.peer = peer;
    participant.meter = new Meter();
    for (const role of ROLES) void this.#give(peer, role);
    if (before) this.#tell('channel', participant); // what that page was sending or doing is over
  }

  /** @param {Peer} peer @param {Role} role */
  async #give(peer, role) {
    await peer.setTrack(role, this.#tracks[role] ?? null).catch((error) => console.warn('room:', error));
    this.#adapt();
  }

  /** What the host has forbidden is neither heard nor seen here. @param {Participant} participant */
  #obey(participant) {
    for (const role of ROLES) participant.peer?.allow(role, participant.sends(role));
  }

  /** Try soon what isn't connected. @param {boolean} [mayDiffer] the network may be another one */
  async #revive(mayDiffer = false) {
    await this.#renewIce();
    for (const { peer } of this.#others) peer?.revive(mayDiffer);
  }

  /** @param {any} given `iceTtl`: in seconds, where it has an end */
  #takeIce({ iceServers = [], iceTtl = Infinity }) {
    const now = Date.now();
    this.#ice = { due: now + iceTtl * 1_000 * ICE_PART, end: now + iceTtl * 1_000 };
    this.#iceServers = iceServers;
    for (const { peer } of this.#others) peer?.setServers(iceServers);
  }

  /** Credentials of a TURN server end: whoever looks for a way then, or comes then, needs others. */
  async #renewIce() {
    if (this.#renewing || Date.now() < this.#ice.due || this.signalling !== 'open') return;
    this.#renewing = true;
    const stay = this.#stay;
    try {
      const given = await this.#ask('GET', 'api/ice');
      if (stay === this.#stay) this.#takeIce(given);
    } catch (error) {
      const end = isPassing(error) ? this.#ice.end : Infinity; // perhaps the old ones do
      this.#ice = { due: Date.now() + BEAT, end };
    } finally {
      this.#renewing = false;
    }
  }

  /**
   * How much longer than else to wait, in ms, while this page's own timers are late: then answers are
   * late too, and whoever asks anew makes it worse.
   */
  get slack() {
    return Math.min(MOST_SLACK, SLACK * Math.max(0, this.#lateness - ON_TIME));
  }

  /**
   * The stream may be dead without a sign of it, unless it has brought something since then: open it
   * anew, which loses nothing.
   * @param {number} since by performance.now()
   */
  #suspect(since) {
    const { slack } = this;
    const isSoon = performance.now() - this.#suspectedAt < SUSPECT_EVERY + slack;
    if (this.signalling !== 'connecting' && !isSoon && this.#heardAt < since - slack) this.#reopen();
  }

  /**
   * The server answers, and the stream isn't there: open it, unless that is under way, or it is
   * being asked whether one is still in the room.
   * @param {number} [patience] ms that this gets
   * @returns {boolean} whether it is opened anew
   */
  hurry(patience = FRESH) {
    const now = performance.now();
    const isYoung = [this.#suspectedAt, this.#begunAt].some((at) => now >= at && now - at < patience + this.slack);
    if (/open|closed/.test(this.signalling) || isYoung) return false;
    this.#reopen();
    return true;
  }

  /** Also where one is being opened: what was sent into a cable that is out is not sent again soon. */
  #reopen() {
    this.#suspectedAt = performance.now();
    this.#rt?.retryNow();
  }

  /** "Try again". @param {boolean} [mayDiffer] the network may be another one */
  retry(mayDiffer = false) {
    this.#reopen();
    void this.#revive(mayDiffer);
  }

  /**
   * Bring a signal to the server, for as long as it is of use.
   * @param {Record<string, unknown>} about
   * @param {() => boolean} isOfUse
   */
  async #signal(about, isOfUse) {
    const stay = this.#stay.signal;
    for (let attempt = 0; isOfUse() && !stay.aborted; attempt += 1) {
      try {
        return await this.#bring(() => this.#post(about));
      } catch (error) {
        if (!isPassing(error)) return this.#refused(error);
        await pause(attempt, stay);
      }
    }
  }

  /**
   * Do a call. Where it is answered at once after others came to nothing, the network was away, and
   * perhaps the stream has ended with it; slow answers are only late.
   * @param {() => Promise<unknown>} call
   */
  async #bring(call) {
    const began = performance.now();
    try {
      await call();
    } catch (error) {
      if (!(/** @type {ApiError} */ (error).status)) this.#awayAt = Math.min(this.#awayAt, began);
      throw error;
    }
    const since = this.#awayAt;
    this.#awayAt = Infinity;
    if (since < began && performance.now() - began < AT_ONCE) this.#suspect(since);
  }

  /** @param {Record<string, unknown>} about */
  async #post({ type, ...about }) {
    const socket = this.#rt?.link.socket;
    const signal = { roomId: this.roomId, ...about };
    if (!socket?.isOpen) return this.#ask('POST', 'api/webrtc/signal', { type, session: this.session, ...signal });
    const late = new Promise((_, reject) => setTimeout(reject, PATIENCE + this.slack, new ApiError(LATE)));
    return Promise.race([socket.ask({ type: 'webrtc-signal', signalType: type, ...signal }), late]);
  }

  /** A signal was refused for good. @param {unknown} error */
  #refused(error) {
    const { code } = /** @type {ApiError} */ (error);
    if (code === 'not_in_room') void this.#doubt();
    else if (code !== 'peer_gone') throw error;
  }

  // ---- one's own media -----------------------------------------------------------------------

  /**
   * Send a track in a role, or nothing. Whoever opened it stops it.
   * @param {Role} role
   * @param {MediaStreamTrack | null} track
   */
  async setTrack(role, track) {
    if (track) this.#tracks[role] = track;
    else delete this.#tracks[role];
    if (role === 'screen') this.#hint();
    track?.addEventListener('ended', () => {
      if (this.#tracks[role] !== track) return;
      void this.setTrack(role, null);
      this.#tell('ended-track', role);
    });
    this.self?.preview(role, track);
    this.#takeOwn();
    const peers = this.#others.map(({ peer }) => peer);
    await Promise.all(peers.map((peer) => peer && this.#give(peer, role)));
    if (this.self) this.#tell('changed', this.self);
    this.#tellState();
  }

  /** @param {boolean} muted */
  setMuted(muted) {
    this.isMuted = muted;
    this.#takeOwn();
    if (this.self) this.#tell('changed', this.self);
    this.#tellState();
  }

  /** @param {boolean} hand */
  setHand(hand) {
    this.hand = hand;
    this.#takeOwn();
    if (this.self) this.#tell('changed', this.self);
    this.#tellState();
  }

  /** What one's own participant shows follows from the tracks, and from what the host forbids. */
  #takeOwn() {
    const { self } = this;
    const isForced = self?.muted ?? false;
    const { microphone, screenAudio, camera, screen } = this.#tracks;
    if (microphone) microphone.enabled = !this.isMuted && !isForced;
    if (screenAudio) screenAudio.enabled = !isForced;
    for (const track of [camera, screen]) if (track) track.enabled = !self?.cameraOff;
    if (self) Object.assign(self, this.#state);
    this.#tell('self', self);
  }

  get #state() {
    const { microphone, camera, screen } = this.#tracks;
    return { audio: Boolean(microphone) && !this.isMuted, video: Boolean(camera), screen: Boolean(screen), hand: this.hand };
  }

  /** Tell the server what one sends, which also says that one is there. @param {boolean} [anyway] */
  #tellState(anyway = false) {
    if (!this.self || (this.phase !== 'joined' && this.phase !== 'waiting')) return;
    const state = JSON.stringify(this.#state);
    if (!anyway && state === this.#lastState) return;
    this.#lastState = state;
    this.#telling = this.#telling.then(() => this.#sendState());
  }

  async #sendState() {
    if (!this.self) return;
    try {
      const signal = AbortSignal.timeout(Math.min(PATIENCE + this.slack, 2 * BEAT)); // or one is taken for silent
      await this.#bring(() => this.#call('POST', '/state', { ...this.#me, ...this.#state }, { signal }));
    } catch (error) {
      this.#lastState = ''; // the next beat says it
      if (!isPassing(error)) await this.#doubt();
    }
  }

  /** What a camera is to deliver now. */
  get capture() {
    const shown = this.#others.map(({ peer }) => linesOf(peer?.view.camera));
    return captureFor(this.#participants.size + 1, this.#limits, Math.max(0, ...shown));
  }

  /** Have the camera deliver it; what is sent is scaled from what it delivers then. */
  #fit() {
    const { height, fps } = this.capture;
    const capture = `${height} ${fps}`;
    if (capture === this.#lastCapture) return;
    this.#lastCapture = capture;
    this.#tell('capture', { height, fps });
    const width = Math.round((height * 16) / 9);
    const { camera } = this.#tracks;
    // What else was asked for, such as a blurred background, stays.
    const wanted = { ...camera?.getConstraints(), width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: fps } };
    camera?.applyConstraints(wanted).then(() => this.#adapt(), () => undefined);
  }

  /** @param {'detail' | 'motion'} content of the screen that is shared now, and of the next ones */
  setScreenContent(content) {
    this.screenContent = content;
    this.#hint();
    this.#adapt();
    this.#tell('self', this.self);
  }

  #hint() {
    const { screen } = this.#tracks;
    if (!screen) return;
    screen.contentHint = this.screenContent;
    const ideal = screenFps(this.#limits, this.screenContent === 'motion');
    screen.applyConstraints({ frameRate: { ideal } }).catch(() => undefined); // then it is as before
  }

  /**
   * Tell somebody how large they are shown here.
   * @param {Participant} participant
   * @param {View} view
   */
  setView(participant, view) {
    participant.peer?.show(viewFor(view, this.data));
  }

  /** From now on; the others learn it by the next `setView`. @param {Room['data']} data */
  setData(data) {
    this.data = data;
    this.#adapt();
    this.#tell('self', this.self);
  }

  /** @param {boolean} isMusic */
  setMusic(isMusic) {
    if (this.isMusic === isMusic) return;
    this.isMusic = isMusic;
    this.#adapt();
  }

  /** Limit what is sent by who is there, what they show, and what the camera delivers. */
  #adapt() {
    this.#fit();
    const people = this.#participants.size + 1;
    const hasScreen = Boolean(this.#tracks.screen);
    const hasMotion = this.screenContent === 'motion';
    const kept = hasMotion ? 'balanced' : 'maintain-resolution';
    const isLow = this.data !== 'all';
    const situation = { people, steps: this.#steps, hasScreen, hasMotion, isLow, limits: this.#limits };
    const kbps = soundFor(this.isMusic, this.data);
    for (const { peer } of this.#others) {
      if (!peer) continue;
      void limit(peer.sender('camera'), cameraFor(situation, peer.view.camera));
      void limit(peer.sender('screen'), screenFor(situation, peer.view.screen), kept);
      void limitAudio(peer.sender('microphone'), kbps);
    }
  }

  // ---- time ----------------------------------------------------------------------------------

  /** @param {AbortSignal} stay */
  #keepTime(stay) {
    /** @param {() => void} act @param {number} ms */
    const every = (act, ms) => {
      const timer = setInterval(act, ms);
      stay.addEventListener('abort', () => clearInterval(timer));
    };
    this.#listenedAt = performance.now();
    every(() => this.#tellState(true), BEAT);
    every(() => void this.#sample(), SAMPLE);
    every(() => void this.#renewIce(), SAMPLE);
    every(() => this.#listen(), LEVEL);
    addEventListener('online', () => this.retry(true), { signal: stay });
  }

  async #sample() {
    for (const participant of this.#others) {
      const { peer, meter } = participant;
      const report = await peer?.stats().catch(() => undefined);
      if (!report || participant.meter !== meter) continue;
      const { level, reason } = meter.quality;
      const now = meter.take(report);
      if (now.level !== level || now.reason !== reason) this.#tell('changed', participant);
    }
    this.#weigh(this.#others.some(({ meter }) => meter.isCpuLimited));
    this.#adapt(); // cameras change by themselves too
  }

  /** Go down the ladder while this machine can't encode as much, and up again. @param {boolean} isLimited */
  #weigh(isLimited) {
    this.#cpuRow = isLimited ? this.#cpuRow + 1 : 0;
    this.#calmRow = isLimited ? 0 : this.#calmRow + 1;
    const down = this.#cpuRow >= CPU_SAMPLES && this.#steps < MOST_STEPS;
    const up = this.#calmRow >= CALM_SAMPLES && this.#steps > 0;
    if (!down && !up) return;
    this.#steps += down ? 1 : -1;
    this.#cpuRow = this.#calmRow = 0;
    this.isCpuLimited = this.#steps > 0;
    if (this.self) this.self.meter.quality = { ...UNKNOWN, reason: this.isCpuLimited ? 'cpu' : '' };
    this.#tell('load', this.load);
  }

  /** Who speaks; and whether this page is on time. */
  #listen() {
    const now = performance.now();
    const late = now - this.#listenedAt - LEVEL;
    this.#lateness = Math.max(Math.min(late, this.#lastLate), this.#lateness * FADE);
    this.#lastLate = late;
    this.#listenedAt = now;
    for (const participant of this.#others) {
      const source = participant.peer?.receiver('microphone').getSynchronizationSources()[0];
      participant.level = participant.sends('microphone') ? (source?.audioLevel ?? 0) : 0;
      if (participant.level > LOUD) participant.heardAt = now;
      const speaking = now - participant.heardAt < HOLD;
      if (speaking === participant.speaking) continue;
      participant.speaking = speaking;
      this.#tell('changed', participant);
    }
    if (this.speaker?.speaking) return;
    const loud = this.#others.filter((one) => one.speaking).sort((one, other) => other.level - one.level);
    if (loud.length) this.#setSpeaker(loud[0]);
  }

  /** @param {Participant | null} speaker */
  #setSpeaker(speaker) {
    if (this.speaker === speaker) return;
    this.speaker = speaker;
    this.#tell('speaker', speaker);
  }

  // ---- talking, data, what a host may do -------------------------------------------------------

  /** @param {string} text @param {number} [replyTo] what it answers @throws {ApiError} */
  say(text, replyTo) {
    return this.#call('POST', '/chat', { ...this.#me, text, replyTo });
  }

  /** @param {string} emoji one of those that the server knows @throws {ApiError} */
  react(emoji) {
    return this.#call('POST', '/reactions', { ...this.#me, emoji });
  }

  /** What was said, oldest first; asked for until it comes or one leaves. @returns {Promise<any[]>} @throws {ApiError} */
  async history() {
    const { signal } = this.#stay;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#call('GET', '/chat');
      } catch (error) {
        if (!isPassing(error)) throw error;
        await pause(attempt, signal);
        if (signal.aborted) throw error;
      }
    }
  }

  /** What may have been said while nothing was heard; listeners know what of it they have. */
  async #hearMissed() {
    this.#tell('missed', await this.history().catch(() => []));
  }

  /** @param {Participant} participant */
  canSend(participant) {
    return participant.peer?.canSend ?? false;
  }

  /**
   * Send something to a participant directly; resolves when there is space for more.
   * @param {Participant} participant
   * @param {string | ArrayBuffer} data at most 16 KiB
   */
  async send(participant, data) {
    if (!participant.peer) throw new Error('there is no connection');
    await participant.peer.send(data);
  }

  /**
   * @param {{ id: number }} participant
   * @param {'mute' | 'unmute' | 'camera-off' | 'camera-on' | 'remove' | 'make-host' | 'admit' | 'deny'} action
   * @throws {ApiError}
   */
  act({ id }, action) {
    return this.#call('POST', `/participants/${id}`, { ...this.#me, action });
  }

  /** Name, lock, lobby, limit, password. @param {Record<string, unknown>} changes @throws {ApiError} */
  async update(changes) {
    this.info = { ...this.info, ...(await this.#call('PATCH', '', { ...this.#me, ...changes })) };
    this.#tell('info', this.info);
  }

  /** End the room for everybody. @throws {ApiError} */
  async end() {
    await this.#call('DELETE', '');
  }
}

const LATE = { status: 0, code: 'unreachable', title: 'No answer came' };

/** Whether the same call may do later. @param {unknown} error of a call, or of a frame */
function isPassing(error) {
  const { status, code } = /** @type {ApiError} */ (error);
  return !status || status === 408 || status === 429 || status >= 500 || code === 'rate_limited';
}

/** Longer with each attempt; the network's return ends it. @param {number} attempt @param {AbortSignal} signal */
function pause(attempt, signal) {
  const ms = Math.min(LONGEST_PAUSE, 250 * 2 ** attempt) * (0.5 + Math.random() / 2);
  return new Promise((resolve) => {
    const over = new AbortController();
    const done = () => {
      clearTimeout(timer);
      over.abort();
      resolve(undefined);
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { signal: over.signal });
    addEventListener('online', done, { signal: over.signal });
  });
}
