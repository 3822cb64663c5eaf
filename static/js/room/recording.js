/** The recording of a call: one's own, and what each says of it to the others. Nobody is recorded without seeing it. */
import { t } from '../i18n.js';
import { byId } from '../page.js';
import { toast } from './dom.js';
import { recall, remember } from './memory.js';
import { nameOf } from './names.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('../room.js').Participant} Participant */
/** @typedef {import('./recorder.js').Recorder} Recorder */

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
    room.on('channel', (person) => {
      if (!room.canSend(person)) this.hear(person, false); // their page is gone, or another
      else if (this.isOn) this._tell([person]);
    });
    room.on('removed', ({ clientId }) => this._others.delete(clientId));
    if (recall('recording', false)) void import('./kept.js').then(({ offerLeft }) => offerLeft());
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
      this._recorder ??= new Recorder(byId('seats'), sources, microphone, () => this._ended());
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

  /** It was stopped, or it broke. */
  _ended() {
    if (this.isOn) this._set(false);
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
