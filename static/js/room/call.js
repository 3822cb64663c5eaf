/** The call itself: pictures, controls, panels, and what has to be said while it goes on. */
import { beginning, formatNumber, isolated, onLanguage, t } from '../i18n.js';
import { announce, byId, copyFrom, h } from '../page.js';
import { clearBanners, line, setBanner } from './banners.js';
import { Breakdown } from './breakdown.js';
import { Chat } from './chat.js';
import { dress, icon, openDialog, size, toast, wireMenu } from './dom.js';
import { switchLook } from './door.js';
import { faultBanner } from './faults.js';
import { Files } from './files.js';
import { showKeys, wireKeys } from './keys.js';
import { recall, remember } from './memory.js';
import { People } from './people.js';
import { Recorder } from './recorder.js';
import { Seats } from './seats.js';
import { play } from './sound.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('../room.js').Participant} Participant */
/** @typedef {import('./devices.js').Devices} Devices */
/** @typedef {import('./devices.js').Kind} Kind */
/** @typedef {import('./pickers.js').Pickers} Pickers */

const SPEAKS = 0.03; // level of a voice, not of a room
const SPOKE = 5; // looks at the level in a row
const PANELS = ['chat', 'people'];
const BOTH = /** @type {const} */ (['audio', 'video']);

export class Call {
  /**
   * @param {Room} room
   * @param {Devices} devices
   * @param {Pickers} pickers
   * @param {(kind: Kind, on: boolean) => void} turn
   */
  constructor(room, devices, pickers, turn) {
    this._room = room;
    this._devices = devices;
    this._pickers = pickers;
    this._turn = turn;
    this._options = recall('options', { mirror: true, sounds: true, hideSelf: false });
    /** @type {'' | 'chat' | 'people'} */
    this._panel = '';
    this._since = 0;
    this._voice = 0;
    this._talking = false;
    /** What of a person was last told. @type {WeakMap<Participant, { hand: boolean, screen: boolean }>} */
    this._known = new WeakMap();
    /** Who records, by clientId. @type {Map<string, string>} */
    this._recording = new Map();
    /** @type {MediaStream | undefined} */
    this._screen = undefined;
    this._isChoosing = false;
    /** @type {WakeLockSentinel | undefined} */
    this._wake = undefined;
    this._planned = false;
    /** The advice that was put away in this call. @type {Set<string>} */
    this._away = new Set();
    this.seats = new Seats(byId('seats'), room, {
      onBlocked: () => this._blocked(),
      onChange: () => this._controls(),
      speaker: () => devices.inUse('speaker'),
    });
    this.seats.hideSelf = this._options.hideSelf;
    this.seats.mirror = this._options.mirror;
    this.files = new Files(room);
    this.people = new People(room);
    this._breakdown = new Breakdown(room);
    this.chat = new Chat(room, this.files, {
      isSeen: () => this._panel === 'chat' && document.visibilityState === 'visible',
      onNews: (from, text) => this._news(from, text),
      onUnread: () => this._controls(),
    });
    this._recorder = new Recorder(byId('seats'), () => this.seats.sources(), () => this._ownSound(), save);
    this._wire();
  }

  get _isOn() {
    return this._room.phase === 'joined';
  }

  // ---- beginning and end -----------------------------------------------------------------------

  start() {
    this._since = performance.now();
    this._away.clear();
    this._render();
    void this._stayAwake();
    void this.chat.catchUp();
    byId('stage').focus();
    const others = this._room.participants.length - 1;
    announce(others ? t('room.said.joined', { count: others }) : t('room.alone.title'));
  }

  stop() {
    this._recorder.stop();
    this._stopScreen();
    void this._wake?.release().catch(() => {});
    this._wake = undefined;
    this.seats.clear();
    this._recording.clear();
    this._show('');
    clearBanners();
    if (document.fullscreenElement) void document.exitFullscreen().catch(() => {});
    for (const dialog of /** @type {NodeListOf<HTMLDialogElement>} */ (document.querySelectorAll('dialog[open]'))) dialog.close();
  }

  // ---- what the room tells -----------------------------------------------------------------------

  _wire() {
    this._wireRoom();
    this._wireControls();
    this._wireDevices();
    this._wireSettings();
    document.addEventListener('visibilitychange', () => this._seen());
    document.addEventListener('fullscreenchange', () => this._controls());
    setInterval(() => this._tick(), 1000);
    onLanguage(() => this._render());
  }

  _wireRoom() {
    const room = this._room;
    for (const name of ['self', 'info', 'load', 'waiting', 'speaker']) room.on(name, () => this._plan());
    room.on('changed', (person) => this._changed(person));
    room.on('added', (person) => this._added(person));
    room.on('removed', (person, reason) => this._removed(person, reason));
    room.on('waiting', (list) => this._knocked(list));
    room.on('data', ({ from, data }) => this._data(from, data));
    room.on('channel', (person) => this._channel(person));
    room.on('ended-track', (role) => role === 'screen' && this._stopScreen());
    room.on('capture', ({ height, fps }) => Object.assign(this._devices, { maxHeight: height, maxFps: fps }));
  }

  /** Many things change at once: drawn once. Not by animation frames, which stop in the background. */
  _plan() {
    if (this._planned) return;
    this._planned = true;
    queueMicrotask(() => {
      this._planned = false;
      if (this._isOn) this._render();
    });
  }

  _render() {
    if (!this._isOn) return;
    const { info, participants, waiting } = this._room;
    byId('call-title').textContent = info.name ?? '';
    byId('alone').hidden = participants.length > 1 || waiting.length > 0;
    this.seats.render();
    this.people.render();
    this._marks();
    this._controls();
    this._notices();
  }

  /** @param {Participant} person */
  _added(person) {
    if (this._isOn && !person.isSelf) {
      toast(t('room.said.came', { name: person.displayName }));
      this._sound('joined');
    }
    this._plan();
  }

  /** @param {Participant} person @param {string} reason */
  _removed(person, reason) {
    this.files.lost(person);
    this._recording.delete(person.clientId);
    if (this._isOn && reason !== 'over') {
      const { displayName: name } = person;
      toast(t(reason === 'left' ? 'room.said.left' : reason === 'removed' ? 'room.said.removed' : 'room.said.lost', { name }));
      this._sound('left');
    }
    this._plan();
  }

  /** @param {Participant} person */
  _changed(person) {
    const before = this._known.get(person) ?? { hand: false, screen: false };
    const { hand, screen, displayName: name, isSelf } = person;
    this._known.set(person, { hand, screen });
    if (this._isOn && !isSelf && hand && !before.hand) {
      toast(t('room.said.hand', { name }));
      this._sound('hand');
    }
    if (this._isOn && !isSelf && screen && !before.screen) toast(t('room.said.screen', { name }));
    this._plan();
  }

  /** @param {{ displayName: string }[]} list */
  _knocked(list) {
    const last = list[list.length - 1];
    const isMore = list.length > Number(byId('waiting').dataset.count ?? 0);
    byId('waiting').dataset.count = String(list.length);
    if (!this._isOn) return;
    if (last && isMore) {
      announce(t('room.said.knocks', { name: last.displayName }));
      this._sound('knock');
    }
    const show = () => this._show('people');
    setBanner('waiting', list.length > 0 && (() => line('info', t('room.waiting.title', { count: list.length }), 'room.waiting.show', show)), String(list.length));
  }

  /** @param {Participant} from @param {string | ArrayBuffer} data */
  _data(from, data) {
    if (typeof data !== 'string') return this.files.take(from, data);
    const said = parse(data);
    if (said?.type === 'recording') this._recordedBy(from, said.on === true);
    else this.files.hear(from, said);
  }

  /** @param {Participant} person */
  _channel(person) {
    if (!this._room.canSend(person)) {
      this.files.lost(person);
      this._recordedBy(person, false);
    } else if (this._recorder.isRunning) this._tellRecording([person], true);
  }

  // ---- the bar on top, and banners -----------------------------------------------------------------

  _marks() {
    const { info } = this._room;
    const marks = [];
    if (info.locked) marks.push(['lock', t('room.mark.locked')]);
    if (this._recorder.isRunning) marks.push(['record', t('room.mark.recording')]);
    for (const name of this._recording.values()) marks.push(['record', t('room.mark.recordedBy', { name })]);
    byId('call-marks').replaceChildren(...marks.map(([look, text]) => h('li', { class: `badge ${look}`, title: text }, icon(look), h('span', {}, text))));
  }

  _tick() {
    if (!this._isOn) return;
    this._breakdown.look();
    const seconds = Math.floor((performance.now() - this._since) / 1000);
    const two = (/** @type {number} */ value) => String(value).padStart(2, '0');
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    byId('call-time').textContent = `${hours ? `${hours}:` : ''}${two(minutes)}:${two(seconds % 60)}`;
  }

  _notices() {
    const { self, load, isCpuLimited } = this._room;
    const { faults, on, tracks } = this._devices;
    setBanner('muted', Boolean(self?.muted) && (() => line('warn', t('room.notice.muted'))));
    setBanner('camera-off', Boolean(self?.cameraOff) && (() => line('warn', t('room.notice.cameraOff'))));
    setBanner('sharing', Boolean(this._screen) && (() => line('info', t('room.notice.sharing'), 'room.screen.stop', () => this._stopScreen())));
    const crowd = load === 'ok' || this._away.has('too-many') ? '' : load;
    if (crowd === 'too-many') this._advise('load', crowd, 'warn', 'room.notice.tooMany');
    else this._advise('load', crowd, 'info', 'room.notice.crowd');
    this._advise('cpu', isCpuLimited ? 'cpu' : '', 'warn', 'room.quality.ownCpu');
    for (const kind of BOTH) {
      const fault = on[kind] ? faults[kind] : undefined;
      setBanner(kind, fault !== undefined && (() => faultBanner([kind], fault, () => this._turn(kind, true))), fault);
    }
    const taken = BOTH.find((kind) => tracks[kind]?.muted);
    const again = () => taken && void this._devices.choose(taken, this._devices.chosen[taken]);
    const text = taken === 'video' ? 'room.notice.cameraTaken' : 'room.notice.micTaken';
    setBanner('interrupted', taken !== undefined && (() => line('warn', t(text), 'room.notice.takeBack', again)), taken);
  }

  /** What the reader may put away for the rest of the call. @param {string} code @param {string} state empty: nothing to say @param {'info' | 'warn'} kind @param {string} text */
  _advise(code, state, kind, text) {
    const close = () => {
      this._away.add(state);
      this._notices();
      byId('stage').focus();
    };
    const isShown = state !== '' && !this._away.has(state);
    setBanner(code, isShown && (() => line(kind, t(text), 'notice.close', close)), state);
  }

  /** The browser wants a gesture before it plays sound. */
  _blocked() {
    const unlock = () => {
      this.seats.play();
      setBanner('blocked', false);
    };
    setBanner('blocked', () => line('warn', t('room.notice.blocked'), 'room.notice.unblock', unlock));
    addEventListener('pointerdown', unlock, { once: true });
    addEventListener('keydown', unlock, { once: true });
  }

  // ---- controls --------------------------------------------------------------------------------

  _wireControls() {
    byId('audio').addEventListener('click', () => this._switch('audio'));
    byId('video').addEventListener('click', () => this._switch('video'));
    byId('screen').addEventListener('click', () => this._share());
    byId('hand').addEventListener('click', () => this._hand());
    byId('leave').addEventListener('click', () => void this._room.leave());
    byId('open-chat').addEventListener('click', () => this._show(this._panel === 'chat' ? '' : 'chat'));
    byId('open-people').addEventListener('click', () => this._show(this._panel === 'people' ? '' : 'people'));
    for (const id of ['open-invite', 'alone-invite']) byId(id).addEventListener('click', () => void this._invite());
    const copy = /** @type {HTMLButtonElement} */ (byId('copy-link'));
    copy.addEventListener('click', () => void copyFrom(copy, byId('invite-link')));
    byId('share-link').addEventListener('click', () => void this._shareLink());
    for (const panel of PANELS) {
      byId(panel).addEventListener('keydown', (event) => {
        if (event.key !== 'Escape' || event.defaultPrevented) return;
        this._show('');
      });
      const close = /** @type {HTMLElement} */ (document.querySelector(`[data-close="${panel}"]`));
      close.addEventListener('click', () => this._show(''));
    }
    wireMenu(byId('more'), byId('more-menu'), () => this._menu());
    this._wireKeys();
  }

  _wireKeys() {
    const shortcuts = [
      { key: 'm', text: 'room.keys.mic', act: () => this._switch('audio') },
      { key: 'v', text: 'room.keys.camera', act: () => this._switch('video') },
      { key: ' ', text: 'room.keys.talk', act: () => {}, held: (/** @type {boolean} */ down) => this._pushToTalk(down) },
      { key: 'd', text: 'room.keys.screen', act: () => this._share() },
      { key: 'r', text: 'room.keys.hand', act: () => this._hand() },
      { key: 'c', text: 'room.keys.chat', act: () => this._show(this._panel === 'chat' ? '' : 'chat') },
      { key: 'p', text: 'room.keys.people', act: () => this._show(this._panel === 'people' ? '' : 'people') },
      { key: 'f', text: 'room.keys.full', act: () => this._fullScreen() },
      { key: 's', text: 'room.keys.self', act: () => this._hideSelf() },
      { key: 'w', text: 'room.keys.view', act: () => this._view() },
      { key: '?', text: 'room.keys.help', act: showKeys },
    ];
    wireKeys(shortcuts, () => this._isOn);
  }

  _controls() {
    if (!this._isOn) return;
    const { self, hand, info, isHost, waiting } = this._room;
    const { faults, on } = this._devices;
    dress(byId('audio'), switchLook('audio', on.audio && !faults.audio && !self?.muted));
    dress(byId('video'), switchLook('video', on.video && !faults.video && !self?.cameraOff));
    const sharing = Boolean(this._screen);
    const screen = { icon: 'screen', label: t('room.screen.label'), text: t('room.screen.short'), pressed: sharing };
    dress(byId('screen'), { ...screen, hint: t(sharing ? 'room.screen.stop' : 'room.screen.start') });
    byId('screen').hidden = !canShare;
    const up = { icon: 'hand', label: t('room.hand.label'), text: t('room.hand.short'), pressed: hand };
    dress(byId('hand'), { ...up, hint: t(hand ? 'room.hand.lower' : 'room.hand.raise') });
    const { unread } = this.chat;
    const label = unread ? t('room.chat.unread', { count: unread }) : t('room.chat.title');
    dress(byId('open-chat'), { icon: 'chat', label, text: t('room.chat.title'), count: unread });
    const count = isHost ? waiting.length : 0;
    const people = t('room.people.label');
    const news = count ? `${people}, ${t('room.waiting.title', { count })}` : people;
    dress(byId('open-people'), { icon: 'people', label: news, text: people, count });
    dress(byId('more'), { icon: 'more', label: t('room.more'), text: t('room.more') });
    dress(byId('leave'), { icon: 'leave', label: t('room.leave'), text: t('room.leave') });
    for (const panel of PANELS) {
      const close = /** @type {HTMLElement} */ (document.querySelector(`[data-close="${panel}"]`));
      dress(close, { icon: 'close', label: t('notice.close') });
    }
    document.title = t(unread ? 'room.pageUnread' : 'room.page', { name: info.name ?? '', count: unread });
  }

  /** @returns {import('./dom.js').Item[]} */
  _menu() {
    const full = Boolean(document.fullscreenElement);
    const recording = this._recorder.isRunning;
    const isHidden = (/** @type {string} */ id) => !byId(id).offsetParent && !byId(id).hidden;
    /** @type {(false | import('./dom.js').Item)[]} */
    const items = [
      isHidden('screen') && { key: 'screen', icon: 'screen', text: t(this._screen ? 'room.screen.stop' : 'room.screen.start'), act: () => this._share() },
      isHidden('open-people') && { key: 'people', icon: 'people', text: t('room.people.label'), act: () => this._show('people') },
      Boolean(this._screen) && { key: 'motion', icon: 'screen', text: t('room.screen.motion'), pressed: this._room.screenContent === 'motion', act: () => this._motion() },
      this._devices.lists.video.length > 1 && { key: 'flip', icon: 'flip', text: t('room.flip'), act: () => void this._devices.flip() },
      { key: 'invite', icon: 'invite', text: t('room.invite.open'), act: () => void this._invite() },
      { key: 'file', icon: 'file', text: t('room.files.send'), act: () => this.chat.chooseFiles() },
      Recorder.isPossible && { key: 'record', icon: 'record', text: t(recording ? 'room.record.stop' : 'room.record.start'), act: () => this._record() },
      document.fullscreenEnabled && { key: 'full', icon: 'full', text: t(full ? 'room.full.exit' : 'room.full.enter'), act: () => this._fullScreen() },
      { key: 'view', icon: 'people', text: t('room.view.speaker'), pressed: this.seats.view === 'speaker', act: () => this._view() },
      { key: 'self', icon: 'eye', text: t('room.self.hide'), pressed: this.seats.hideSelf, act: () => this._hideSelf() },
      { key: 'settings', icon: 'settings', text: t('room.settings.title'), act: () => this._settings() },
      hasKeys() && { key: 'keys', icon: 'keys', text: t('room.keys.title'), act: showKeys },
    ];
    return /** @type {import('./dom.js').Item[]} */ (items.filter((item) => item));
  }

  /** @param {Kind} kind */
  _switch(kind) {
    const { on, faults } = this._devices;
    const isOn = on[kind] && !faults[kind];
    this._turn(kind, !isOn);
    announce(t(kind === 'audio' ? (isOn ? 'room.mic.isOff' : 'room.mic.isOn') : isOn ? 'room.camera.isOff' : 'room.camera.isOn'));
  }

  /** @param {boolean} down */
  _pushToTalk(down) {
    if (down && this._devices.on.audio) return;
    if (!down && !this._talking) return;
    this._talking = down;
    this._turn('audio', down);
  }

  _hand() {
    this._room.setHand(!this._room.hand);
    announce(t(this._room.hand ? 'room.hand.isUp' : 'room.hand.isDown'));
  }

  /** @param {'' | 'chat' | 'people'} panel */
  _show(panel) {
    const was = this._panel;
    this._panel = panel;
    for (const one of PANELS) {
      byId(one).hidden = one !== panel;
      byId(`open-${one}`).setAttribute('aria-expanded', String(one === panel));
    }
    byId('call').dataset.panel = panel;
    if (panel === 'chat') {
      this.chat.seen();
      byId('chat-text').focus();
    } else if (panel === 'people') byId('people-title').focus();
    else if (was && this._isOn) [byId(`open-${was}`), byId('more')].find((one) => one.offsetParent)?.focus();
  }

  _hideSelf() {
    this.seats.hideSelf = !this.seats.hideSelf;
    this._remember({ hideSelf: this.seats.hideSelf });
    this.seats.render();
    announce(t(this.seats.hideSelf ? 'room.self.isHidden' : 'room.self.isShown'));
  }

  _view() {
    this.seats.view = this.seats.view === 'grid' ? 'speaker' : 'grid';
    this.seats.render();
  }

  _fullScreen() {
    if (!document.fullscreenEnabled) return;
    if (document.fullscreenElement) void document.exitFullscreen();
    else void document.documentElement.requestFullscreen({ navigationUI: 'hide' }).catch(() => {});
  }

  async _invite() {
    this._showInvite(this._room.info.joinUrl);
    openDialog(/** @type {HTMLDialogElement} */ (byId('invite-dialog')));
    // Since one has joined, the server's address may have changed, and with it the link.
    const { joinUrl } = await this._room.look().catch(() => this._room.info);
    this._showInvite(joinUrl);
  }

  /** @param {string} link */
  _showInvite(link) {
    const { info, roomId } = this._room;
    byId('invite-link').textContent = link;
    byId('invite-code').textContent = roomId;
    byId('invite-password').hidden = !info.hasPassword;
    byId('invite-local').hidden = !/^(localhost|127\.|\[::1\])/.test(new URL(link).hostname);
    byId('share-link').hidden = !navigator.share;
    const code = new URL(`../api/video/rooms/${encodeURIComponent(roomId)}/qr.svg`, location.href);
    code.searchParams.set('at', link); // another link is another picture
    const image = /** @type {HTMLImageElement} */ (byId('invite-qr'));
    if (image.src !== code.href) image.src = code.href;
  }

  async _shareLink() {
    const url = byId('invite-link').textContent ?? '';
    await navigator.share({ title: this._room.info.name, url }).catch(() => {}); // the reader may think better of it
  }

  // ---- screen ----------------------------------------------------------------------------------

  _share() {
    if (this._screen) this._stopScreen();
    else void this._startScreen();
  }

  async _startScreen() {
    if (!canShare || this._isChoosing) return;
    /** @type {DisplayMediaStreamOptions & Record<string, unknown>} */
    const wanted = { video: { frameRate: { ideal: 15 } }, audio: true, systemAudio: 'include', selfBrowserSurface: 'exclude', surfaceSwitching: 'include' };
    this._isChoosing = true;
    try {
      this._screen = await navigator.mediaDevices.getDisplayMedia(wanted);
    } catch (error) {
      const isOwnChoice = error instanceof Error && error.name === 'NotAllowedError' && !/system/i.test(error.message);
      if (!isOwnChoice) toast(t('room.screen.failed'));
      return;
    } finally {
      this._isChoosing = false;
    }
    if (!this._isOn) return this._stopScreen(); // the call has ended meanwhile
    const [picture] = this._screen.getVideoTracks();
    void this._room.setTrack('screen', picture);
    void this._room.setTrack('screenAudio', this._screen.getAudioTracks()[0] ?? null);
    announce(t('room.notice.sharing'));
    this._plan();
  }

  _stopScreen() {
    if (!this._screen) return;
    for (const track of this._screen.getTracks()) track.stop();
    this._screen = undefined;
    void this._room.setTrack('screen', null);
    void this._room.setTrack('screenAudio', null);
    announce(t('room.screen.stopped'));
    this._plan();
  }

  _motion() {
    const isFilm = this._room.screenContent === 'motion';
    this._room.setScreenContent(isFilm ? 'detail' : 'motion');
    announce(t(isFilm ? 'room.screen.isSharp' : 'room.screen.isSmooth'));
  }

  // ---- recording -------------------------------------------------------------------------------

  _record() {
    if (this._recorder.isRunning) this._recorder.stop();
    else this._recorder.start();
    this._tellRecording(this._room.participants, this._recorder.isRunning);
    toast(t(this._recorder.isRunning ? 'room.record.started' : 'room.record.stopped'));
    this._plan();
  }

  /** Nobody is recorded without seeing it. @param {Participant[]} people @param {boolean} on */
  _tellRecording(people, on) {
    const text = JSON.stringify({ type: 'recording', on });
    for (const one of people) if (this._room.canSend(one)) this._room.send(one, text).catch(() => {});
  }

  /** @param {Participant} person @param {boolean} on */
  _recordedBy(person, on) {
    const { clientId, displayName: name } = person;
    if (on === this._recording.has(clientId)) return;
    if (on) this._recording.set(clientId, name);
    else this._recording.delete(clientId);
    toast(t(on ? 'room.mark.recordedBy' : 'room.said.recordingOver', { name }));
    this._plan();
  }

  _ownSound() {
    const { self, isMuted } = this._room;
    return isMuted || self?.muted ? undefined : this._devices.tracks.audio;
  }

  // ---- devices, settings -------------------------------------------------------------------------

  _wireDevices() {
    this._devices.addEventListener('change', () => {
      this.seats.useSpeaker();
      this._plan();
    });
    this._pickers.onLevel = (level) => this._voiceLevel(level);
  }

  /** Who speaks into a microphone that is off is told. @param {number} level */
  _voiceLevel(level) {
    if (!this._isOn) return;
    const { on, tracks } = this._devices;
    byId('audio').classList.toggle('heard', on.audio && level > SPEAKS);
    const isUnheard = level > SPEAKS && !on.audio && tracks.audio;
    this._voice = isUnheard ? this._voice + 1 : Math.max(0, this._voice - 0.25);
    if (this._voice < SPOKE) return;
    this._voice = -600; // once a minute at most
    toast(t('room.said.muted'));
  }

  _wireSettings() {
    const mirror = /** @type {HTMLInputElement} */ (byId('mirror-self'));
    const sounds = /** @type {HTMLInputElement} */ (byId('sounds'));
    mirror.checked = this._options.mirror;
    sounds.checked = this._options.sounds;
    mirror.addEventListener('change', () => {
      this.seats.mirror = mirror.checked;
      this._remember({ mirror: mirror.checked });
      this.seats.render();
    });
    sounds.addEventListener('change', () => this._remember({ sounds: sounds.checked }));
  }

  _settings() {
    byId('settings-devices').append(this._pickers.element);
    openDialog(/** @type {HTMLDialogElement} */ (byId('settings-dialog')));
  }

  /** @param {Partial<typeof this._options>} changes */
  _remember(changes) {
    Object.assign(this._options, changes);
    remember('options', this._options);
  }

  // ---- the rest --------------------------------------------------------------------------------

  /** @param {string} from @param {string} text */
  _news(from, text) {
    const short = beginning(text, 120);
    const shown = this._panel === 'chat' || short === text ? text : `${short}…`;
    (this._panel === 'chat' ? announce : toast)(`${isolated(from)}: ${isolated(shown)}`);
    this._sound('message');
  }

  /** @param {Parameters<typeof play>[0]} name */
  _sound(name) {
    if (this._options.sounds) void play(name, this._devices.inUse('speaker'));
  }

  /** The page is looked at again: a phone has stopped what it could. */
  _seen() {
    if (!this._isOn || document.visibilityState !== 'visible') return;
    this.seats.play();
    void this._stayAwake();
    if (this._panel === 'chat') this.chat.seen();
  }

  async _stayAwake() {
    try {
      const wake = await navigator.wakeLock?.request('screen');
      if (this._isOn) this._wake = wake;
      else void wake?.release();
    } catch {
      // A battery that is nearly empty, or a policy: the screen goes dark as usual.
    }
  }
}

/** A phone held in the hand hasn't. */
const hasKeys = () => matchMedia('(any-pointer: fine)').matches;

/** Phones can't. */
const canShare = Boolean(navigator.mediaDevices && 'getDisplayMedia' in navigator.mediaDevices);

/** @param {Blob} blob @param {string} extension */
function save(blob, extension) {
  const time = new Date().toLocaleString('sv').slice(0, 16).replace(':', '.'); // Swedish is ISO 8601
  const link = h('a', { href: URL.createObjectURL(blob), download: `${t('room.record.file', { time })}.${extension}` });
  link.click();
  toast(t('room.record.saved', { size: size(blob.size, formatNumber) }));
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** @param {string} text @returns {any} undefined when it isn't JSON */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
