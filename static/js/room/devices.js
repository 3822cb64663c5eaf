/**
 * The camera, the microphone and the speaker: opening, changing and losing them, each fault by a
 * name. Knows no DOM.
 *
 * Events: `change` (tracks, faults, lists, switches), `track` ({kind}), `interrupted` ({kind}).
 */
import { recall, remember } from './memory.js';

/** @typedef {'audio' | 'video'} Kind */
/** @typedef {'audio' | 'video' | 'speaker'} Choosable */
/**
 * Why there is no picture or sound: `insecure` page, `unsupported` browser, refused by the user
 * (`denied`, or only `dismissed`), by the `system`, by a `policy`; `none` there, `busy` with another
 * program, `gone` (unplugged), `slow` (no answer), `failed` otherwise.
 * @typedef {'insecure' | 'unsupported' | 'denied' | 'dismissed' | 'system' | 'policy' | 'none' | 'busy'
 *   | 'gone' | 'slow' | 'failed'} Fault
 */

const SETTLE = 300; // ms: a headset announces its parts one after the other
const SLOW = 20_000; // ms after which the reader is told that nothing answers
/** @type {Record<Choosable, MediaDeviceKind>} */
const KINDS = { audio: 'audioinput', video: 'videoinput', speaker: 'audiooutput' };
/** @type {Record<string, Fault>} */
const NAMES = {
  NotFoundError: 'none',
  DevicesNotFoundError: 'none',
  NotReadableError: 'busy',
  TrackStartError: 'busy',
  AbortError: 'failed',
  SecurityError: 'policy',
  OverconstrainedError: 'gone',
};

export class Devices extends EventTarget {
  constructor() {
    super();
    /** What is chosen, by deviceId; '' for the system's choice. @type {Record<Choosable, string>} */
    this.chosen = recall('devices', { audio: '', video: '', speaker: '' });
    /** The switches. @type {Record<Kind, boolean>} */
    this.on = { audio: true, video: true };
    /** @type {Partial<Record<Kind, MediaStreamTrack>>} */
    this.tracks = {};
    /** @type {Partial<Record<Kind, Fault>>} */
    this.faults = {};
    /** The devices there are; without labels until one was allowed. @type {Record<Choosable, MediaDeviceInfo[]>} */
    this.lists = { audio: [], video: [], speaker: [] };
    /** Whether the browser is being asked. @type {Record<Kind, boolean>} */
    this.asking = { audio: false, video: false };
    /** After the end nothing is opened, and what was asked for before is closed when it comes. */
    this._isWanted = true;
    this.maxHeight = 720;
    this.maxFps = 30;
    /** @type {'user' | 'environment' | ''} */
    this.facing = '';
    /** Takes turns: two questions at once make some browsers fail. @type {Promise<unknown>} */
    this._turn = Promise.resolve();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this._settling = undefined;
    navigator.mediaDevices?.addEventListener('devicechange', () => {
      clearTimeout(this._settling);
      this._settling = setTimeout(() => void this._plugged(), SETTLE);
    });
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this._revive();
    });
  }

  /** Open what is switched on: both in one question where both are. */
  async start() {
    this._isWanted = true;
    await this.refresh();
    const wanted = kinds.filter((kind) => this.on[kind] && !this.tracks[kind]);
    if (wanted.length) await this._inTurn(() => this._open(wanted));
  }

  /**
   * Switch the microphone or camera. The microphone stays open, so that it comes back at once (who
   * sends its track silences it); the camera is closed, so that its light goes out.
   * @param {Kind} kind
   * @param {boolean} on
   */
  async turn(kind, on) {
    this.on[kind] = on;
    if (kind === 'video' && !on) this._drop('video');
    this._changed();
    if (on && !this.tracks[kind]) await this._inTurn(() => this._open([kind]));
  }

  /**
   * @param {Choosable} kind
   * @param {string} id of the device; '' for the system's choice
   */
  async choose(kind, id) {
    this.chosen[kind] = id;
    if (kind === 'video') this.facing = '';
    remember('devices', this.chosen);
    this._changed();
    if (kind !== 'speaker' && (this.tracks[kind] || this.on[kind])) await this._reopen(kind);
  }

  /** The other camera of a phone, or the next one. */
  async flip() {
    const now = this.tracks.video?.getSettings();
    if (now?.facingMode) {
      this.facing = now.facingMode === 'environment' ? 'user' : 'environment';
      this.chosen.video = '';
      await this._reopen('video');
      return;
    }
    const cameras = this.lists.video;
    const at = cameras.findIndex(({ deviceId }) => deviceId === now?.deviceId);
    const next = cameras[(at + 1) % cameras.length];
    if (next) await this.choose('video', next.deviceId);
  }

  /** Close everything. */
  stop() {
    this._isWanted = false;
    for (const kind of kinds) this._drop(kind);
    this._changed();
  }

  /** Look again which devices there are. */
  async refresh() {
    const found = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    for (const kind of /** @type {Choosable[]} */ (Object.keys(KINDS))) {
      this.lists[kind] = found.filter((device) => device.kind === KINDS[kind] && device.deviceId);
    }
    this._changed();
  }

  /** The device in use, as its `deviceId`. @param {Choosable} kind */
  inUse(kind) {
    if (kind === 'speaker') return this.chosen.speaker;
    return this.tracks[kind]?.getSettings().deviceId ?? this.chosen[kind];
  }

  /** @param {Kind} kind */
  async _reopen(kind) {
    await this._inTurn(async () => {
      // A phone has one camera at a time: the old one first.
      if (kind === 'video') this._drop('video', false);
      await this._open([kind]);
    });
  }

  /** @param {Kind[]} wanted */
  async _open(wanted) {
    const fault = unusable();
    for (const kind of wanted) {
      this.asking[kind] = !fault;
      if (fault) this.faults[kind] = fault;
    }
    this._changed();
    if (fault) return;
    const slow = setTimeout(() => this._fault(wanted, 'slow'), SLOW);
    try {
      await this._ask(wanted);
    } finally {
      clearTimeout(slow);
      for (const kind of wanted) this.asking[kind] = false;
      await this.refresh();
    }
  }

  /** Together first, which is one question to the user; then each, to learn which one fails. @param {Kind[]} wanted */
  async _ask(wanted) {
    if (!this._isWanted) return;
    try {
      const stream = await navigator.mediaDevices.getUserMedia(this._constraints(wanted));
      for (const track of stream.getTracks()) this._take(track);
    } catch (error) {
      if (wanted.length > 1) await this._askApart(wanted, error);
      else if (this._relax(wanted, error)) await this._ask(wanted);
      else this._fault(wanted, await faultOf(error, wanted[0]));
    }
  }

  /** A question that was refused is asked again only where the answer is known to be yes. @param {Kind[]} wanted @param {unknown} error */
  async _askApart(wanted, error) {
    for (const kind of wanted) {
      const asks = !isRefusal(error) || (await permission(kind)) === 'granted';
      if (asks) await this._ask([kind]);
      else this._fault([kind], await faultOf(error, kind));
    }
  }

  /** Whether a remembered choice was to blame, which is then forgotten for now. @param {Kind[]} wanted @param {unknown} error */
  _relax(wanted, error) {
    const was = wanted.filter((kind) => this.chosen[kind] || (kind === 'video' && this.facing));
    const blame = error instanceof Error && /^(OverconstrainedError|NotFoundError)$/.test(error.name);
    if (!blame || !was.length) return false;
    for (const kind of was) this.chosen[kind] = '';
    this.facing = '';
    return true;
  }

  /** @param {Kind[]} wanted @returns {MediaStreamConstraints} */
  _constraints(wanted) {
    const { audio, video } = this.chosen;
    const height = this.maxHeight;
    /** @type {MediaStreamConstraints} */
    const asked = {};
    if (wanted.includes('audio')) {
      asked.audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
      if (audio) asked.audio.deviceId = { exact: audio };
    }
    if (wanted.includes('video')) {
      const width = Math.round((height * 16) / 9);
      asked.video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: this.maxFps } };
      if (this.facing) asked.video.facingMode = { ideal: this.facing };
      else if (video) asked.video.deviceId = { exact: video };
      else asked.video.facingMode = { ideal: 'user' };
    }
    return asked;
  }

  /** @param {MediaStreamTrack} track */
  _take(track) {
    const kind = /** @type {Kind} */ (track.kind);
    this._drop(kind, false);
    // Switched off, or left, while it opened.
    if (!this._isWanted || (kind === 'video' && !this.on.video)) return track.stop();
    this.tracks[kind] = track;
    delete this.faults[kind];
    track.addEventListener('ended', () => this._lost(kind, track));
    track.addEventListener('mute', () => this._interrupted(kind, track));
    track.addEventListener('unmute', () => this._changed());
    this._tell('track', { kind });
  }

  /** @param {Kind} kind @param {boolean} [tell] */
  _drop(kind, tell = true) {
    const track = this.tracks[kind];
    delete this.tracks[kind];
    track?.stop();
    if (track && tell) this._tell('track', { kind });
  }

  /** Unplugged, or taken by the system. @param {Kind} kind @param {MediaStreamTrack} track */
  _lost(kind, track) {
    if (this.tracks[kind] !== track) return;
    delete this.tracks[kind];
    this._tell('track', { kind });
    this._fault([kind], 'gone');
    if (document.visibilityState === 'visible') void this._inTurn(() => this._open([kind]));
  }

  /** A call on the phone, or another program, took the device for a while. @param {Kind} kind @param {MediaStreamTrack} track */
  _interrupted(kind, track) {
    if (this.tracks[kind] !== track) return;
    this._tell('interrupted', { kind });
    this._changed();
  }

  /** What ended while the page was in the background. */
  _revive() {
    const ended = kinds.filter((kind) => this.on[kind] && this.faults[kind] === 'gone');
    if (ended.length) void this._inTurn(() => this._open(ended));
  }

  /** Something was plugged in or out: what was missing may be there now. */
  async _plugged() {
    await this.refresh();
    const waiting = kinds.filter(
      (kind) =>
        this.on[kind] && !this.tracks[kind] && this.lists[kind].length && isMissing(this.faults[kind]),
    );
    if (waiting.length) await this._inTurn(() => this._open(waiting));
    else if (this._isBack()) await this._reopen('audio');
    this._tell('plugged', {});
  }

  /** Whether the chosen microphone is there again while another stands in for it. */
  _isBack() {
    const { audio } = recall('devices', { audio: '' });
    const isHere = this.lists.audio.some(({ deviceId }) => deviceId === audio);
    if (!audio || !isHere || !this.tracks.audio || this.inUse('audio') === audio) return false;
    this.chosen.audio = audio;
    return true;
  }

  /** @param {Kind[]} which @param {Fault} fault */
  _fault(which, fault) {
    for (const kind of which) {
      if (!this.tracks[kind]) this.faults[kind] = fault;
    }
    this._changed();
  }

  /** @param {() => Promise<unknown>} act */
  _inTurn(act) {
    const turn = this._turn.then(act, act);
    this._turn = turn.catch(() => {});
    return turn;
  }

  _changed() {
    this._tell('change', {});
  }

  /** @param {string} name @param {object} detail */
  _tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** @type {Kind[]} */
const kinds = ['audio', 'video'];

/** @returns {Fault | undefined} why no device can be asked for at all */
function unusable() {
  if (!window.isSecureContext) return 'insecure';
  return 'mediaDevices' in navigator ? undefined : 'unsupported';
}

/** @param {Fault | undefined} fault */
const isMissing = (fault) => fault === 'none' || fault === 'gone' || fault === 'busy' || fault === 'failed';

/** @param {unknown} error */
const isRefusal = (error) => error instanceof Error && /^(NotAllowed|PermissionDenied|Security)/.test(error.name);

/**
 * The name of what `getUserMedia` threw.
 * @param {unknown} error
 * @param {Kind} kind
 * @returns {Promise<Fault>}
 */
export async function faultOf(error, kind) {
  if (!(error instanceof Error)) return 'failed';
  if (!isRefusal(error) || error.name === 'SecurityError') return NAMES[error.name] ?? 'failed';
  // Chromium says which: "Permission denied by system", "Permission dismissed".
  if (/system/i.test(error.message)) return 'system';
  if (/dismissed/i.test(error.message)) return 'dismissed';
  return (await permission(kind)) === 'prompt' ? 'dismissed' : 'denied';
}

/** @param {Kind} kind */
async function permission(kind) {
  const name = /** @type {PermissionName} */ (kind === 'audio' ? 'microphone' : 'camera');
  try {
    return (await navigator.permissions.query({ name })).state;
  } catch {
    return 'denied'; // Firefox knows no such permission to ask for.
  }
}
