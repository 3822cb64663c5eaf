/** Choosing the microphone, camera and speaker; the level of the voice; a test of the speaker. */
import { onLanguage, t } from '../i18n.js';
import { h } from '../page.js';
import { icon, said } from './dom.js';
import { canChooseSpeaker, loudness, Meter, play, SILENCE } from './sound.js';

/** @typedef {import('./devices.js').Devices} Devices */
/** @typedef {import('./devices.js').Choosable} Choosable */

const QUIET = 6000; // ms without a sound: then the reader is asked
const FRAME = 100; // ms between looks at the level

/** @type {Record<Choosable, { label: string, nth: string, none: string }>} */
const TEXTS = {
  audio: { label: 'room.device.microphone', nth: 'room.device.microphoneNth', none: 'room.device.noMicrophone' },
  video: { label: 'room.device.camera', nth: 'room.device.cameraNth', none: 'room.device.noCamera' },
  speaker: { label: 'room.device.speaker', nth: 'room.device.speakerNth', none: 'room.device.system' },
};

/** One set of fields for the page: it stands before the call, then in the settings. */
export class Pickers {
  /** @param {Devices} devices */
  constructor(devices) {
    this._devices = devices;
    /** @type {Meter | undefined} */
    this._meter = undefined;
    /** @type {MediaStreamTrack | undefined} */
    this._metered = undefined;
    this._heardAt = performance.now();
    this.level = 0;
    /** Called with each level; set by who wants to know. @type {(level: number) => void} */
    this.onLevel = () => {};
    this._selects = { audio: select('audio'), video: select('video'), speaker: select('speaker') };
    this._bar = h('meter', { id: 'level', min: '0', max: '1', 'data-i18n-attr': 'aria-label:room.device.level', 'aria-label': t('room.device.level') });
    this._quiet = h('p', { id: 'quiet', class: 'banner warn', role: 'status', hidden: true });
    this._test = h('button', { id: 'test-speaker', type: 'button', class: 'small' }, icon('speaker'), said('span', 'room.device.test'));
    this._tested = h('p', { class: 'hint', role: 'status' });
    this.element = h(
      'div',
      { class: 'pickers stack' },
      h('div', { class: 'field' }, label('audio'), this._selects.audio, this._bar),
      this._quiet,
      h('div', { class: 'field' }, label('video'), this._selects.video),
      h('div', { class: 'field', hidden: !canChooseSpeaker }, label('speaker'), this._selects.speaker),
      h('div', { class: 'row' }, this._test, this._tested),
    );
    this._wire();
  }

  _wire() {
    const devices = this._devices;
    for (const [kind, field] of entries(this._selects)) {
      field.addEventListener('change', () => void devices.choose(kind, field.value));
    }
    this._test.addEventListener('click', () => void this._playTest());
    devices.addEventListener('change', () => this.render());
    onLanguage(() => this.render());
    setInterval(() => this._measure(), FRAME);
    this.render();
  }

  render() {
    for (const [kind, field] of entries(this._selects)) this._fill(kind, field);
    this._follow();
    this._quiet.textContent = t('room.device.quiet');
  }

  /** @param {Choosable} kind @param {HTMLSelectElement} field */
  _fill(kind, field) {
    const list = this._devices.lists[kind];
    const names = list.map(({ label: name }, at) => name || t(TEXTS[kind].nth, { number: at + 1 }));
    const options = list.map(({ deviceId }, at) => h('option', { value: deviceId }, names[at]));
    const first = kind === 'speaker' || !list.length ? [h('option', { value: '' }, t(list.length ? 'room.device.system' : TEXTS[kind].none))] : [];
    const wanted = [...first, ...options];
    const isSame = wanted.length === field.options.length && wanted.every((one, at) => one.isEqualNode(field.options[at]));
    if (!isSame) field.replaceChildren(...wanted);
    field.disabled = !list.length;
    const inUse = this._devices.inUse(kind);
    field.value = list.some(({ deviceId }) => deviceId === inUse) ? inUse : (wanted[0]?.value ?? '');
  }

  /** Measure the track that is open now. */
  _follow() {
    const { audio } = this._devices.tracks;
    if (audio === this._metered) return;
    this._meter?.close();
    this._metered = audio;
    this._meter = audio && new Meter(audio);
    this._heardAt = performance.now();
  }

  _measure() {
    const meter = this._meter;
    this.level = meter?.level ?? 0;
    this._bar.value = loudness(this.level);
    const isListening = meter?.running && this._devices.on.audio && document.visibilityState === 'visible';
    if (this.level > SILENCE || !isListening) this._heardAt = performance.now();
    this._quiet.hidden = performance.now() - this._heardAt < QUIET;
    this.onLevel(this.level);
  }

  /** Whether nothing has been heard for a while from a microphone that is on. */
  get quiet() {
    return !this._quiet.hidden;
  }

  async _playTest() {
    this._tested.textContent = t('room.device.testing');
    await play('test', this._devices.inUse('speaker'));
    this._tested.textContent = t('room.device.tested');
  }
}

/** @template {string} K @template V @param {Record<K, V>} object */
const entries = (object) => /** @type {[K, V][]} */ (Object.entries(object));

/** @param {Choosable} kind */
const select = (kind) => h('select', { id: `device-${kind}` });

/** @param {Choosable} kind */
const label = (kind) => said('label', TEXTS[kind].label, { for: `device-${kind}` });
