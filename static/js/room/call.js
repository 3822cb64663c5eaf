/** The call itself: what its parts are, what the room and the devices tell them, and what one does in it. */
import { parsed } from '../api.js';
import { beginning, isolated, onLanguage, t } from '../i18n.js';
import { clearNotices } from '../notices.js';
import { announce, byId, h } from '../page.js';
import { Advice } from './advice.js';
import { Breakdown } from './breakdown.js';
import { Chat } from './chat.js';
import { Controls, marksOf } from './controls.js';
import { bring, icon, withPart, toast } from './dom.js';
import { Invitation } from './invitation.js';
import { nameOf, tellApart } from './names.js';
import { Panels } from './panels.js';
import { People } from './people.js';
import { Recording } from './recording.js';
import { Seats } from './seats.js';
import { Settings } from './settings.js';
import { play } from './sound.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('../room.js').Participant} Participant */
/** @typedef {import('./devices.js').Devices} Devices */
/** @typedef {import('./devices.js').Kind} Kind */
/** @typedef {import('./pickers.js').Pickers} Pickers */
/** @typedef {import('./transfers.js').Transfers} Transfers */

const SPEAKS = 0.03; // level of a voice, not of a room
const SPOKE = 5; // looks at the level in a row
const CALM = 5_000; // ms: then comes what few calls need, to be there when the server isn't
/** How one has left, besides a lost connection, in words. @type {Record<string, string>} */
const GONE = { left: 'room.said.left', removed: 'room.said.removed' };

export class Call {
  /**
   * @param {Room} room
   * @param {Devices} devices
   * @param {Pickers} pickers
   * @param {(kind: Kind, on: boolean) => void} turn
   */
  constructor(room, devices, pickers, turn) {
    this.room = room;
    this.devices = devices;
    this.turn = turn;
    this._since = 0;
    this._voice = 0;
    this._talking = false;
    this._knocks = 0;
    /** What of a person was last told. @type {WeakMap<Participant, { hand: boolean, screen: boolean }>} */
    this._known = new WeakMap();
    /** @type {WakeLockSentinel | undefined} */
    this._wake = undefined;
    this._planned = false;
    // Before anybody is told of them.
    for (const name of ['added', 'info']) room.on(name, () => tellApart(room.participants));
    this.settings = new Settings(this, pickers, () => this._plan());
    this.advice = new Advice(this);
    this.seats = new Seats(byId('seats'), room, {
      onBlocked: () => this.advice.blocked(),
      onChange: () => this._plan(),
      onOwnScreen: (seat) => this.sharing?.dress(seat),
      speaker: () => devices.inUse('speaker'),
    });
    this.people = new People(room, () => this._plan());
    /** One's own screen, once it was shared. @type {import('./sharing.js').Sharing | undefined} */
    this.sharing = undefined;
    this.invitation = new Invitation(room);
    this.panels = new Panels((panel) => panel === 'chat' && this.chat.open());
    this.chat = new Chat(room, {
      isSeen: () => this.panels.shown === 'chat' && document.visibilityState === 'visible',
      onNews: (from, text) => this._news(from, text),
      onUnread: () => this._plan(),
      onFiles: (files) => this._withFiles((transfers) => transfers.choose(files)),
      onPicture: (file, alt) => this._withFiles((transfers) => transfers.show(file, alt)),
    });
    /** @type {Promise<Transfers> | undefined} */
    this._transfers = undefined;
    this.recording = new Recording(room, {
      sources: () => this.seats.sources(),
      microphone: () => (room.isMuted || room.self?.muted ? undefined : devices.tracks.audio),
      onChange: () => this._plan(),
    });
    this._breakdown = new Breakdown(room);
    this._controls = new Controls(this);
    pickers.onLevel = (level) => this._voiceLevel(level);
    this._wire();
  }

  get isOn() {
    return this.room.phase === 'joined';
  }

  // ---- beginning and end -----------------------------------------------------------------------

  /** @param {boolean} hasWaited for being let in, perhaps looking elsewhere: they are called back */
  start(hasWaited) {
    if (hasWaited) this._sound('joined');
    this._since = performance.now();
    if (this.room.data === 'audio' && this.devices.on.video) this.room.setData('all'); // a camera at the door says so
    this.advice.start();
    this._render();
    void this._stayAwake();
    void this.chat.catchUp();
    const later = () => [...['recorder', 'transfers', 'keysheet', 'faults', 'tuning', 'hearing', 'later'].map((name) => import(`./${name}.js`)), this.chat.panel()];
    setTimeout(() => void Promise.all(later()).catch(() => {}), CALM);
    byId('stage').focus();
    const others = this.room.participants.length - 1;
    announce(others ? t('room.said.joined', { count: others }) : t('room.alone.title'));
  }

  stop() {
    this.recording.stop();
    this.sharing?.stop();
    void this._wake?.release().catch(() => {});
    this._wake = undefined;
    this.seats.clear();
    this.panels.close();
    clearNotices();
    if (document.fullscreenElement) void document.exitFullscreen().catch(() => {});
    for (const dialog of /** @type {NodeListOf<HTMLDialogElement>} */ (document.querySelectorAll('dialog[open]'))) dialog.close();
  }

  /** The page is looked at again: a phone has stopped what it could. */
  _seen() {
    if (!this.isOn || document.visibilityState !== 'visible') return;
    this.seats.play();
    void this._stayAwake();
    if (this.panels.shown === 'chat') this.chat.seen();
  }

  async _stayAwake() {
    try {
      const wake = await navigator.wakeLock?.request('screen');
      if (this.isOn) this._wake = wake;
      else void wake?.release();
    } catch {
      // A battery that is nearly empty, or a policy: the screen goes dark as usual.
    }
  }

  // ---- what the room and the devices tell ----------------------------------------------------------

  _wire() {
    const { room, devices } = this;
    for (const name of ['self', 'info', 'load', 'waiting', 'speaker']) room.on(name, () => this._plan());
    room.on('changed', (person) => this._changed(person));
    room.on('added', (person) => this._added(person));
    room.on('removed', (person, reason) => this._removed(person, reason));
    room.on('waiting', (list) => this._knocked(list));
    room.on('reaction', (person, emoji) => person && withPart(import('./reactions.js'), ({ show }) => show(person, emoji)));
    room.on('data', ({ from, data }) => this._data(from, data));
    room.on('channel', (person) => room.canSend(person) || this._lost(person));
    room.on('capture', ({ height, fps }) => Object.assign(devices, { maxHeight: height, maxFps: fps }));
    devices.addEventListener('change', () => {
      this.seats.useSpeaker();
      this._plan();
    });
    document.addEventListener('visibilitychange', () => this._seen());
    document.addEventListener('fullscreenchange', () => this._plan());
    setInterval(() => this._tick(), 1000);
    onLanguage(() => this._render());
  }

  /** @param {Participant} person */
  _added(person) {
    if (this.isOn && !person.isSelf) {
      toast(t('room.said.came', { name: nameOf(person) }));
      this._sound('joined');
    }
    this._plan();
  }

  /** @param {Participant} person @param {string} reason */
  _removed(person, reason) {
    this._lost(person);
    if (this.isOn && reason !== 'over') {
      toast(t(GONE[reason] ?? 'room.said.lost', { name: nameOf(person) }));
      this._sound('left');
    }
    this._plan();
  }

  /** @param {Participant} person */
  _changed(person) {
    const before = this._known.get(person) ?? { hand: false, screen: false };
    const { hand, screen, isSelf } = person;
    const name = nameOf(person);
    this._known.set(person, { hand, screen });
    if (this.isOn && !isSelf && hand && !before.hand) {
      toast(t('room.said.hand', { name }));
      this._sound('hand');
    }
    if (this.isOn && !isSelf && screen && !before.screen) toast(t('room.said.screen', { name }));
    this._plan();
  }

  /** @param {{ displayName: string }[]} list */
  _knocked(list) {
    const last = list[list.length - 1];
    const isMore = list.length > this._knocks;
    this._knocks = list.length;
    if (!this.isOn) return;
    if (last && isMore) {
      const text = t('room.said.knocks', { name: nameOf(last) });
      announce(text);
      this._sound('knock', 'people', text);
    }
    this.advice.waiting(list.length);
  }

  /** @param {Participant} from @param {string | ArrayBuffer} data */
  _data(from, data) {
    if (typeof data !== 'string') return void (this._transfers && this._withFiles(({ files }) => files.take(from, data)));
    const said = parsed(data);
    if (said?.type === 'recording') this.recording.hear(from, said.on === true);
    else if (/^file-/.test(said?.type)) this._withFiles(({ files }) => files.hear(from, said));
  }

  /** One after the other, as they come. @template T @param {(transfers: Transfers) => T} act @returns {Promise<T | void>} */
  _withFiles(act) {
    this._transfers ??= Promise.all([import('./transfers.js'), this.chat.panel()]).then(([{ Transfers }, panel]) => new Transfers(this.chat, panel));
    return this._transfers.then(act, () => {
      this._transfers = undefined; // so that another try asks again
      toast(t('error.unreachable'));
    });
  }

  /** Whatever was on its way to or from somebody is lost. @param {Participant} person */
  _lost(person) {
    if (this._transfers) this._withFiles(({ files }) => files.lost(person));
  }

  /** Of the chat, or of a file. @param {string} from @param {string} text */
  _news(from, text) {
    const isShown = this.panels.shown === 'chat';
    const short = beginning(text, 120);
    const shown = isShown || short === text ? text : `${short}…`;
    const line = `${isolated(from)}: ${isolated(shown)}`;
    (isShown ? announce : toast)(line);
    this._sound('message', 'chat', line);
  }

  /** Who speaks into a microphone that is off is told. @param {number} level */
  _voiceLevel(level) {
    if (!this.isOn) return;
    const { on, tracks } = this.devices;
    byId('audio').classList.toggle('heard', on.audio && level > SPEAKS);
    const isUnheard = level > SPEAKS && !on.audio && tracks.audio;
    this._voice = isUnheard ? this._voice + 1 : Math.max(0, this._voice - 0.25);
    if (this._voice < SPOKE) return;
    this._voice = -600; // once a minute at most
    toast(t('room.said.muted'));
  }

  // ---- what is shown -------------------------------------------------------------------------------

  /** Many things change at once: drawn once. Not by animation frames, which stop in the background. */
  _plan() {
    if (this._planned) return;
    this._planned = true;
    queueMicrotask(() => {
      this._planned = false;
      this._render();
    });
  }

  _render() {
    if (!this.isOn) return;
    const { info, participants, waiting } = this.room;
    byId('call-title').textContent = byId('call-title').title = info.name ?? '';
    byId('alone').hidden = participants.length > 1 || waiting.length > 0;
    const { unread } = this.chat;
    document.title = t(unread ? 'room.pageUnread' : 'room.page', { name: info.name ?? '', count: unread });
    const { hideSelf, mirror } = this.settings.options;
    Object.assign(this.seats, { hideSelf, mirror });
    this.seats.render();
    this.people.render();
    this.panels.render();
    this._controls.render();
    this._marks();
    this.advice.render();
  }

  _marks() {
    const marks = [...marksOf(this.room), ...this.recording.marks.map((text) => ['record', text])];
    byId('call-marks').replaceChildren(...marks.map(([look, text]) => h('li', { class: `badge ${look}`, title: text }, icon(look), h('span', {}, text))));
  }

  _tick() {
    if (!this.isOn) return;
    this._breakdown.look();
    const seconds = Math.floor((performance.now() - this._since) / 1000);
    const two = (/** @type {number} */ value) => String(value).padStart(2, '0');
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    byId('call-time').textContent = `${hours ? `${hours}:` : ''}${two(minutes)}:${two(seconds % 60)}`;
  }

  // ---- what one does: see the table in controls.js ---------------------------------------------------

  /** @param {Kind} kind */
  isSending(kind) {
    const { on, faults } = this.devices;
    const { self } = this.room;
    return on[kind] && !faults[kind] && !(kind === 'audio' ? self?.muted : self?.cameraOff);
  }

  /** @param {Kind} kind */
  switch(kind) {
    const { on, faults } = this.devices;
    const isOn = on[kind] && !faults[kind];
    this.turn(kind, !isOn);
    announce(t(kind === 'audio' ? (isOn ? 'room.mic.isOff' : 'room.mic.isOn') : isOn ? 'room.camera.isOff' : 'room.camera.isOn'));
  }

  /** As long as a key is held. @param {boolean} down */
  talk(down) {
    if (down && this.devices.on.audio) return;
    if (!down && !this._talking) return;
    this._talking = down;
    this.turn('audio', down);
  }

  get isSharing() {
    return this.sharing?.isOn ?? false;
  }

  share() {
    bring(({ share }) => share(this, () => this._plan()));
  }

  raiseHand() {
    const { room } = this;
    room.setHand(!room.hand);
    announce(t(room.hand ? 'room.hand.isUp' : 'room.hand.isDown'));
  }

  hideSelf() {
    const hideSelf = !this.settings.options.hideSelf;
    this.settings.set('hideSelf', hideSelf);
    announce(t(hideSelf ? 'room.self.isHidden' : 'room.self.isShown'));
  }

  /** What may also be told to whoever looks elsewhere has a panel. @param {Parameters<typeof play>[0]} name @param {import('./panels.js').Panel} [panel] */
  _sound(name, panel, text = '') {
    const { sounds, notify } = this.settings.options;
    if (sounds) void play(name, this.devices.inUse('speaker'));
    if (panel && notify && document.visibilityState === 'hidden') withPart(import('./notify.js'), ({ tell }) => tell(this.panels, panel, text));
  }
}
