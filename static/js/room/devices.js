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
 * program, `gone` (unplugged), `ends` (at once, however often it is opened), `slow` (no answer), `failed`
 * otherwise.
 * @typedef {'insecure' | 'unsupported' | 'denied' | 'dismissed' | 'system' | 'policy' | 'none' | 'busy'
 *   | 'gone' | 'ends' | 'slow' | 'failed'} Fault
 */

const SETTLE = 300; // ms: a headset announces its parts one after the other
const SLOW = 20_000; // ms after which the reader is told that nothing answers
const BRIEF = 5_000; // ms: a track that ends sooner has ended at once
const MOST_ENDS = 3; // of tracks at once, after which another device is opened
const PAUSE = 1_000; // ms, each time twice as long
/** Often without a picture, so the last to stand in for another. */
const VIRTUAL = /virtual|\bOBS\b|ManyCam|Snap Camera|XSplit|DroidCam|Blackhole|Loopback/i;
/** @typedef {'voice' | 'music' | 'plain'} Sound `plain`: as the device gives it */
/** @param {boolean} is */
const tidied = (is) => ({ echoCancellation: is, noiseSuppression: is, autoGainControl: is });
/** What is done to the microphone's sound. @type {Record<Sound, MediaTrackConstraints>} */
export const SOUNDS = { voice: tidied(true), music: { ...tidied(false), channelCount: { ideal: 2 } }, plain: tidied(false) };
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
    /** @type {Sound} */
    this.sound = recall('sound', 'voice');
    if (!Object.hasOwn(SOUNDS, this.sound)) this.sound = 'voice';
    /** Whether the camera is to blur what is behind one, where it can. */
    this.blur = recall('blur', false);
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
    /** Those that were asked for together, last. @type {Partial<Record<Kind, Kind[]>>} */
    this._wanted = {};
    /** The last question. @type {Partial<Record<Kind, object>>} */
    this._asked = {};
    /** What listeners of `track` have. @type {Partial<Record<Kind, MediaStreamTrack>>} */
    this._told = {};
    /**
     * What could not be used, until somebody asks again or plugs something in, by deviceId.
     * @type {Record<Kind, Set<string>>}
     */
    this._spoiled = { audio: new Set(), video: new Set() };
    /** How many tracks in a row have ended at once. @type {Record<Kind, number>} */
    this._ends = { audio: 0, video: 0 };
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
    kinds.forEach((kind) => this._forgive(kind));
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
    this._forgive(kind);
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
    if (kind === 'speaker' || !(this.tracks[kind] || this.on[kind])) return;
    this._forgive(kind);
    await this.reopen(kind);
  }

  /** The other camera of a phone, or the next one. */
  async flip() {
    const now = this.tracks.video?.getSettings();
    if (now?.facingMode) {
      this.facing = now.facingMode === 'environment' ? 'user' : 'environment';
      this.chosen.video = '';
      this._forgive('video');
      await this.reopen('video');
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

  /** The device in use, as its `deviceId`; '' for the system's choice. @param {Choosable} kind */
  inUse(kind) {
    const { [kind]: id } = this.chosen;
    if (kind === 'speaker') return this._has(kind, id) || !this.lists.speaker.length ? id : '';
    return this.tracks[kind]?.getSettings().deviceId ?? id;
  }

  /** @param {Choosable} kind @param {string} id */
  _has(kind, id) {
    return this.lists[kind].some(({ deviceId }) => deviceId === id);
  }

  /** Let each device be tried again. @param {Kind} kind */
  _forgive(kind) {
    this._spoiled[kind].clear();
    this._ends[kind] = 0;
  }

  /** As it is to be now. @param {Kind} kind */
  async reopen(kind) {
    await this._inTurn(async () => {
      // A phone has one camera at a time: the old one first.
      if (kind === 'video') this._drop('video');
      await this._open([kind]);
    });
  }

  /** @param {Kind[]} wanted */
  async _open(wanted) {
    const fault = unusable();
    for (const kind of wanted) {
      this.asking[kind] = !fault;
      this._wanted[kind] = wanted;
      if (fault) this.faults[kind] = fault;
    }
    this._changed();
    if (fault) return;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let slow;
    const asked = this._ask(wanted).finally(() => {
      clearTimeout(slow);
      for (const kind of this._still(wanted)) this.asking[kind] = false;
      return this.refresh();
    });
    // One that never answers is not to keep another from its turn.
    const late = new Promise((resolve) => (slow = setTimeout(resolve, SLOW))).then(async () => {
      // Their names may be told by now, unless what hangs hangs here, too.
      await Promise.race([this.refresh(), new Promise((resolve) => setTimeout(resolve, 1_000))]);
      this._fault(this._still(wanted).filter((kind) => this.asking[kind]), 'slow');
    });
    await Promise.race([asked, late]);
  }

  /** Those that nobody has asked for since. @param {Kind[]} wanted */
  _still(wanted) {
    return wanted.filter((kind) => this._wanted[kind] === wanted);
  }

  /** Together first, which is one question to the user; then each, to learn which one fails. @param {Kind[]} wanted */
  async _ask(wanted) {
    const error = await this._try(wanted);
    if (error === undefined) return;
    for (const kind of wanted) {
      if (this._wanted[kind] !== wanted) continue;
      // A question that was refused is asked again only where the answer is known to be yes.
      const asks = wanted.length > 1 && (!isRefusal(error) || (await permission(kind)) === 'granted');
      const reason = asks ? await this._try([kind]) : error;
      if (reason !== undefined) await this._askElse(kind, reason);
    }
  }

  /** One that is dead, busy or gone is no reason to go without: another stands in. @param {Kind} kind @param {unknown} reason */
  async _askElse(kind, reason) {
    /** @type {unknown} */
    let error = reason;
    if (!isRefusal(error)) await this.refresh(); // the devices are told once one was allowed
    while (error !== undefined && !isRefusal(error) && this._order(kind).length) error = await this._try([kind]);
    if (error !== undefined) this._fault([kind], await faultOf(error, kind));
  }

  /** Open the first of those that haven't failed. @param {Kind[]} wanted @returns {Promise<unknown>} what was thrown */
  async _try(wanted) {
    if (!this._isWanted) return undefined;
    /** @type {Partial<Record<Kind, string>>} */
    const ids = {};
    for (const kind of wanted) {
      ids[kind] = this._order(kind)[0] ?? '';
      this._asked[kind] = ids;
    }
    try {
      const stream = await navigator.mediaDevices.getUserMedia(this._constraints(ids));
      for (const track of stream.getTracks()) this._take(track, ids);
      return undefined;
    } catch (error) {
      if (wanted.every((kind) => this._asked[kind] !== ids)) return undefined; // another is asked for now
      // Of two it isn't known which one.
      if (wanted.length === 1 && !isRefusal(error)) this._spoiled[wanted[0]].add(ids[wanted[0]] ?? '');
      return error ?? 'no error';
    }
  }

  /** The choice, the system's, then each other. @param {Kind} kind @returns {string[]} by deviceId; '' for the system's */
  _order(kind) {
    const isVirtual = (/** @type {MediaDeviceInfo} */ { label }) => Number(VIRTUAL.test(label));
    const others = [...this.lists[kind]].sort((one, other) => isVirtual(one) - isVirtual(other));
    const all = new Set([this.chosen[kind], '', ...others.map(({ deviceId }) => deviceId)]);
    return [...all].filter((id) => !this._spoiled[kind].has(id));
  }

  /** @param {Partial<Record<Kind, string>>} ids @returns {MediaStreamConstraints} */
  _constraints({ audio, video }) {
    const height = this.maxHeight;
    /** @type {MediaStreamConstraints} */
    const asked = {};
    if (audio !== undefined) {
      asked.audio = { ...SOUNDS[this.sound] };
      if (audio) asked.audio.deviceId = { exact: audio };
    }
    if (video !== undefined) {
      const width = Math.round((height * 16) / 9);
      asked.video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: this.maxFps } };
      if (this.blur) Object.assign(asked.video, { backgroundBlur: true });
      if (video) asked.video.deviceId = { exact: video };
      else asked.video.facingMode = { ideal: this.facing || 'user' };
    }
    return asked;
  }

  /** @param {MediaStreamTrack} track @param {Partial<Record<Kind, string>>} ids by which it was asked for */
  _take(track, ids) {
    const kind = /** @type {Kind} */ (track.kind);
    const { [kind]: id = '' } = ids;
    if (this._asked[kind] !== ids) return track.stop(); // too late
    this._drop(kind);
    // Switched off, or left, while it opened.
    if (!this._isWanted || (kind === 'video' && !this.on.video)) return track.stop();
    this.tracks[kind] = track;
    delete this.faults[kind];
    const since = performance.now();
    const lost = () => this._lost(kind, track, id, since);
    track.addEventListener('ended', lost);
    if (track.readyState === 'ended') queueMicrotask(lost);
    track.addEventListener('mute', () => this._interrupted(kind, track));
    track.addEventListener('unmute', () => this._changed());
    this._changed();
  }

  /** @param {Kind} kind */
  _drop(kind) {
    const track = this.tracks[kind];
    delete this.tracks[kind];
    track?.stop();
  }

  /** Unplugged, or taken by the system. @param {Kind} kind @param {MediaStreamTrack} track @param {string} id @param {number} since */
  _lost(kind, track, id, since) {
    if (this.tracks[kind] !== track) return;
    delete this.tracks[kind];
    this._ends[kind] = performance.now() - since < BRIEF ? this._ends[kind] + 1 : 0;
    const ends = this._ends[kind];
    if (ends > MOST_ENDS) for (const one of [id, track.getSettings().deviceId ?? id]) this._spoiled[kind].add(one);
    const isOver = !this._order(kind).length;
    this._fault([kind], isOver ? 'ends' : 'gone');
    const ms = ends > 1 && ends <= MOST_ENDS ? PAUSE * 2 ** (ends - 2) : 0;
    if (!isOver && document.visibilityState === 'visible') void this._again(kind, ms);
  }

  /** @param {Kind} kind @param {number} ms until then */
  async _again(kind, ms) {
    if (ms) await new Promise((resolve) => setTimeout(resolve, ms));
    const isWanted = () => this._isWanted && this.on[kind] && !this.tracks[kind];
    await this._inTurn(async () => isWanted() && this._open([kind]));
  }

  /** A call on the phone, or another program, took the device for a while. @param {Kind} kind @param {MediaStreamTrack} track */
  _interrupted(kind, track) {
    if (this.tracks[kind] !== track) return;
    this._tell('interrupted', { kind });
    this._changed();
  }

  /** What ended while the page was in the background, or may have been given back by another program. */
  _revive() {
    const lost = kinds.filter((kind) => this.on[kind] && /^(gone|busy)$/.test(this.faults[kind] ?? ''));
    lost.forEach((kind) => this._forgive(kind));
    if (lost.length) void this._inTurn(() => this._open(lost));
  }

  /** Something was plugged in or out: what was missing may be there now. */
  async _plugged() {
    // The system's default has one id, whichever device it is.
    const ids = (/** @type {Kind} */ kind) => this.lists[kind].map(({ deviceId, groupId }) => deviceId + groupId).join();
    const before = { audio: ids('audio'), video: ids('video') };
    const missed = kinds.filter((kind) => this.chosen[kind] && !this._has(kind, this.chosen[kind]));
    await this.refresh();
    const changed = kinds.filter((kind) => ids(kind) !== before[kind]);
    for (const kind of changed) this._forgive(kind);
    const waiting = kinds.filter(
      (kind) =>
        this.on[kind] && !this.tracks[kind] && this.lists[kind].length &&
        (isMissing(this.faults[kind]) || (this.faults[kind] === 'ends' && changed.includes(kind))),
    );
    if (waiting.length) await this._inTurn(() => this._open(waiting));
    // The chosen one is back while another stands in for it.
    const back = missed.filter((kind) => this.tracks[kind] && this._has(kind, this.chosen[kind]));
    for (const kind of back) await this.reopen(kind);
    this._tell('plugged', {});
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
    for (const kind of kinds) {
      const { [kind]: track } = this.tracks;
      // One that is coming takes the place of another without a gap.
      const isComing = this._isWanted && this.asking[kind] && this.on[kind] && !this.faults[kind];
      if (track === this._told[kind] || (!track && isComing)) continue;
      this._told[kind] = track;
      this._tell('track', { kind });
    }
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
const isMissing = (fault) => fault !== undefined && /^(none|gone|busy|failed)$/.test(fault);

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
