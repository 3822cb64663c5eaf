/** The recording of a call: one's own, and what each says of it to the others. Nobody is recorded without seeing it. */
import { formatDate, formatNumber, t } from '../i18n.js';
import { banner, byId, h } from '../page.js';
import { said, size, toast } from './dom.js';
import { recall, remember } from './memory.js';
import { nameOf } from './names.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('../room.js').Participant} Participant */
/** @typedef {import('./recorder.js').Recorder} Recorder */
/** @typedef {import('./tape.js').Tape} Tape */

/** Whether this browser can record at all. */
export const canRecord = 'MediaRecorder' in globalThis && 'captureStream' in HTMLCanvasElement.prototype;

export class Recording {
  /**
   * @param {Room} room
   * @param {{ sources: () => import('./recorder.js').Source[], microphone: () => MediaStreamTrack | undefined, onChange: () => void }} acts
   */
  constructor(room, acts) {
    this._room = room;
    this._acts = acts;
    /** @type {Recorder | undefined} */
    this._recorder = undefined;
    this._isStarting = false;
    /** Whether one records. */
    this.isOn = false;
    /** Who else does, by clientId. @type {Map<string, string>} */
    this._others = new Map();
    room.on('channel', (person) => this.isOn && this._tell([person]));
    room.on('removed', ({ clientId }) => this._others.delete(clientId));
    if (recall('recording', false)) void offerLeft();
  }

  /** Who records, in words. */
  get marks() {
    const others = [...this._others.values()].map((name) => t('room.mark.recordedBy', { name }));
    return this.isOn ? [t('room.mark.recording'), ...others] : others;
  }

  toggle() {
    if (this.isOn) this._recorder?.stop();
    else if (!this._isStarting) void this._start();
  }

  async _start() {
    this._isStarting = true;
    try {
      const { Recorder } = await import('./recorder.js'); // few calls need it
      const { sources, microphone } = this._acts;
      this._recorder ??= new Recorder(byId('seats'), sources, microphone, (tape, ms) => void this._ended(tape, ms));
      remember('recording', true);
      await this._recorder.start();
      if (this._room.phase === 'joined') this._set(true);
      else this._recorder.stop(); // the call has ended meanwhile
    } catch (error) {
      console.warn('recording:', error);
      toast(t('room.record.failed'));
    } finally {
      this._isStarting = false;
    }
  }

  /** The call is over. */
  stop() {
    this._recorder?.stop();
    this._others.clear();
  }

  /** It was stopped, or it broke. @param {Tape} tape @param {number} ms */
  async _ended(tape, ms) {
    if (this.isOn) this._set(false);
    await save(tape, ms);
  }

  /** @param {boolean} on */
  _set(on) {
    this.isOn = on;
    this._tell(this._room.participants);
    toast(t(on ? 'room.record.started' : 'room.record.stopped'));
    this._acts.onChange();
  }

  /** @param {Participant[]} people */
  _tell(people) {
    const text = JSON.stringify({ type: 'recording', on: this.isOn });
    for (const one of people) if (this._room.canSend(one)) this._room.send(one, text).catch(() => {});
  }

  /** What somebody says of theirs. @param {Participant} person @param {boolean} on */
  hear(person, on) {
    const { clientId } = person;
    const name = nameOf(person);
    if (on === this._others.has(clientId)) return;
    if (on) this._others.set(clientId, name);
    else this._others.delete(clientId);
    toast(t(on ? 'room.mark.recordedBy' : 'room.said.recordingOver', { name }));
    this._acts.onChange();
  }
}

/** @param {Tape} tape @param {number} [ms] */
async function save(tape, ms) {
  const film = await tape.film(ms);
  const time = new Date(tape.began).toLocaleString('sv').slice(0, 16).replace(':', '.'); // Swedish is ISO 8601
  const link = h('a', { href: URL.createObjectURL(film), download: `${t('room.record.file', { time })}.${tape.kind}` });
  link.click();
  toast(t('room.record.saved', { size: size(film.size, formatNumber) }));
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  await tape.saved();
}

/** What a page of before has recorded, and could not give to the reader any more. */
async function offerLeft() {
  const { leftTapes } = await import('./tape.js');
  for (const tape of await leftTapes()) byId('kept').append(kept(tape));
}

/** @param {Tape} tape */
function kept(tape) {
  const button = (/** @type {string} */ key, /** @type {string} */ look, /** @type {() => Promise<void>} */ act) => {
    const made = said('button', key, { type: 'button', class: `small ${look}` });
    made.addEventListener('click', () => {
      offer.remove();
      void act();
    });
    return made;
  };
  const buttons = h('div', { class: 'row' }, button('room.files.save', 'primary', () => save(tape)), button('room.record.erase', '', () => tape.erase()));
  const offer = banner('info', t('room.record.cut', { time: formatDate(tape.began) }), buttons);
  offer.dataset.notice = 'recording-cut';
  return offer;
}
