/** Sound: how loud a track is and each person is played, the page's own signals, the test of a speaker. */

/** @typedef {{ volume: number, muted: boolean }} Hearing `volume`: 0 to 1 */

/** @type {AudioContext | undefined} */
let shared;
/** Below this (root mean square) is silence: -60 dB. */
export const SILENCE = 0.001;

/** Browsers let a page make sound only after a gesture or while it records: it is woken when it can be. */
export function audioContext() {
  if (!shared) {
    shared = new AudioContext();
    const wake = () => void shared?.resume().catch(() => {});
    for (const gesture of ['pointerdown', 'keydown']) addEventListener(gesture, wake, { passive: true });
  }
  if (shared.state === 'suspended') void shared.resume().catch(() => {});
  return shared;
}

/** How loud a microphone is, also while its track is switched off for the others. */
export class Meter {
  /** @param {MediaStreamTrack} track a clone of it is listened to */
  constructor(track) {
    const context = audioContext();
    this._track = track.clone();
    this._track.enabled = true;
    this._source = context.createMediaStreamSource(new MediaStream([this._track]));
    this._analyser = context.createAnalyser();
    this._analyser.fftSize = 4096; // all since the last look: a short sound between two would be missed
    this._samples = new Float32Array(this._analyser.fftSize);
    this._source.connect(this._analyser);
  }

  /** Whether it can tell at all. */
  get running() {
    return audioContext().state === 'running';
  }

  /** Root mean square of the last 85 ms (at 48 kHz), 0 to 1. */
  get level() {
    this._analyser.getFloatTimeDomainData(this._samples);
    const sum = this._samples.reduce((total, sample) => total + sample * sample, 0);
    return Math.sqrt(sum / this._samples.length);
  }

  close() {
    this._source.disconnect();
    this._track.stop();
  }
}

/** A level as the ear takes it, 0 to 1: -60 dB to -6 dB. @param {number} level */
export const loudness = (level) => Math.min(1, Math.max(0, (20 * Math.log10(level || 1e-9) + 60) / 54));

/** The notes of each signal: [hertz, start, seconds]. @type {Record<string, [number, number, number][]>} */
const SIGNALS = {
  joined: [[523, 0, 0.12], [784, 0.1, 0.18]],
  left: [[784, 0, 0.12], [523, 0.1, 0.18]],
  hand: [[880, 0, 0.1], [880, 0.16, 0.1], [1175, 0.32, 0.2]],
  message: [[988, 0, 0.12]],
  knock: [[440, 0, 0.1], [440, 0.2, 0.1]],
  test: [[523, 0, 0.3], [659, 0.3, 0.3], [784, 0.6, 0.3], [1047, 0.9, 0.6]],
};

/**
 * Play one of the page's signals.
 * @param {'joined' | 'left' | 'hand' | 'message' | 'knock' | 'test'} name
 * @param {string} [speaker] deviceId
 */
export async function play(name, speaker = '') {
  const context = audioContext();
  const out = context.createMediaStreamDestination();
  const end = Math.max(...SIGNALS[name].map((note) => strike(context, out, note)));
  const audio = new Audio();
  audio.srcObject = out.stream;
  await useSpeaker(audio, speaker);
  try {
    await audio.play();
    await new Promise((resolve) => setTimeout(resolve, (end + 0.3) * 1000));
  } catch {
    // Not before the first gesture: then it is only seen.
  }
  audio.srcObject = null;
}

/**
 * @param {AudioContext} context
 * @param {AudioNode} out
 * @param {[number, number, number]} note
 */
function strike(context, out, [hertz, start, seconds]) {
  const at = context.currentTime + 0.1 + start;
  const tone = new OscillatorNode(context, { frequency: hertz, type: 'sine' });
  const gain = new GainNode(context, { gain: 0 });
  gain.gain.setValueAtTime(0, at);
  gain.gain.linearRampToValueAtTime(0.2, at + 0.02);
  gain.gain.linearRampToValueAtTime(0, at + seconds);
  tone.connect(gain).connect(out);
  tone.start(at);
  tone.stop(at + seconds);
  return start + seconds;
}

/** Whether a speaker can be chosen in this browser. */
export const canChooseSpeaker = 'setSinkId' in HTMLMediaElement.prototype;

/** How people are played here, by clientId: whoever comes back is as before. @type {Map<string, Hearing>} */
const hearings = new Map();

/** @param {{ clientId: string }} person @returns {Hearing} */
export const hearingOf = ({ clientId }) => hearings.get(clientId) ?? { volume: 1, muted: false };

/**
 * For this call only: anybody may come to the next one by the same name. Nobody else is told.
 * @param {{ clientId: string }} person
 * @param {Partial<Hearing>} change
 */
export const hear = (person, change) => void hearings.set(person.clientId, { ...hearingOf(person), ...change });

/** What each element was told last. @type {WeakMap<HTMLMediaElement, string>} */
const told = new WeakMap();

/** One that can't be used is asked for once, not at each look. @param {HTMLMediaElement} element @param {string} speaker deviceId; '' for the system's */
export async function useSpeaker(element, speaker) {
  if (!canChooseSpeaker || (told.get(element) ?? '') === speaker) return;
  told.set(element, speaker);
  const chosen = /** @type {HTMLMediaElement & { setSinkId(id: string): Promise<void> }} */ (element);
  const system = () => (told.get(element) === speaker ? chosen.setSinkId('').catch(() => {}) : undefined);
  await chosen.setSinkId(speaker).catch(system);
}
