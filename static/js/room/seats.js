/** The pictures of a call: a seat for each person and each shared screen, and where they stand. */
import { firstCharacter, onLanguage, t } from '../i18n.js';
import { h } from '../page.js';
import { isOfTheLine, isOwnLine } from '../quality.js';
import { bring, dress, icon, withPart } from './dom.js';
import { duet, focus, grid } from './grid.js';
import { recall } from './memory.js';
import { nameOf, visible } from './names.js';
import { hearingOf, useSpeaker } from './sound.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('../room.js').Participant} Participant */
/** @typedef {'camera' | 'screen'} Role */
/** @typedef {import('./grid.js').Place} Place */
/** @typedef {'grid' | 'speaker' | 'sidebar'} View */

/** What to say of a connection, by the engine's word for the reason. @type {Record<string, string>} */
const REASONS = {
  loss: 'room.quality.loss',
  delay: 'room.quality.delay',
  jitter: 'room.quality.jitter',
  interrupted: 'room.quality.interrupted',
  'no-path': 'room.quality.noPath',
  cpu: 'room.quality.cpu',
};
export const TONES = 6;
const TAPPED = 4000; // ms
const FEW = 6; // small pictures are well seen on one page, however small the window

/** The seat of a person, or of a screen that a person shares. */
class Seat {
  /**
   * @param {Participant} person
   * @param {Role} role
   * @param {{ onPin: () => void, onMove: (event: Event) => void, onAsk: () => void, onBlocked: () => void, onChange: () => void, speaker: () => string }} acts
   */
  constructor(person, role, acts) {
    this.person = person;
    this.role = role;
    this.acts = acts;
    this.video = h('video', { playsinline: true, muted: true, autoplay: true, 'data-role': role });
    this.video.muted = true; // the attribute alone doesn't count for an element that a script made
    this.audio = h('audio', { autoplay: true, 'data-role': role === 'camera' ? 'audio' : 'screenAudio' });
    this.face = h('div', { class: 'face', 'aria-hidden': 'true' });
    this.name = h('bdi', { class: 'name' });
    this.marks = h('span', { class: 'seat-marks' });
    this.hand = h('span', { class: 'hand', hidden: true });
    this.bars = h('span', { class: 'bars' }, icon('bars'));
    this.words = h('span');
    this.trouble = h('p', { class: 'trouble', 'data-trouble': true, hidden: true }, icon('alert'), this.words);
    this.pin = h('button', { type: 'button', class: 'pin round', 'data-pin': true });
    this.pin.addEventListener('click', acts.onPin);
    this.ear = h('button', { type: 'button', class: 'pin round', 'data-ear': true, hidden: person.isSelf });
    this.ear.addEventListener('click', () => openHearing(person, acts.onChange));
    this.ask = h('button', { type: 'button', class: 'primary ask', hidden: true });
    this.ask.addEventListener('click', acts.onAsk);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.tapped = undefined;
    this.element = h(
      'div',
      { class: `seat ${role}`, role: 'group' },
      this.video,
      this.audio,
      this.face,
      this.trouble,
      this.ask,
      h('div', { class: 'seat-top' }, this.pin, this.ear, this.hand, this.bars),
      h('p', { class: 'tag' }, this.marks, this.name),
    );
    this.element.setAttribute(role === 'camera' ? 'data-tile' : 'data-screen', person.clientId);
    this.element.addEventListener('dblclick', acts.onPin);
    this.element.addEventListener('click', () => this._tap());
    for (const name of ['pointerdown', 'keydown']) this.element.addEventListener(name, (event) => acts.onMove(event));
    for (const name of ['loadeddata', 'emptied']) this.video.addEventListener(name, () => this._picture());
  }

  get key() {
    return keyOf(this.person, this.role);
  }

  /** @param {{ pinned: boolean, mirrored: boolean, order: number, ownLine: boolean, isHeld: boolean }} how `order`: of raised hands, 0 for none; held: not asked for */
  render({ pinned, mirrored, order, ownLine, isHeld }) {
    const { person, role, element } = this;
    const { streams } = person;
    const isCamera = role === 'camera';
    this._show(this.video, isHeld ? null : isCamera ? streams.camera : streams.screen);
    this.ask.hidden = isCamera || !isHeld;
    this.ask.textContent = t('room.data.show');
    this._hear(isCamera ? streams.audio : streams.screenAudio);
    this.face.textContent = isCamera ? initials(visible(person.displayName) || nameOf(person)) : '';
    this.face.dataset.tone = String(person.id % TONES);
    this._picture();
    const isRear = streams.camera?.getVideoTracks()[0]?.getSettings().facingMode === 'environment';
    element.classList.toggle('mirrored', mirrored && person.isSelf && isCamera && !isRear);
    element.classList.toggle('speaking', isCamera && person.speaking && !person.isSelf);
    element.classList.toggle('own', person.isSelf);
    this._describe();
    this._marks(order);
    this._connection(ownLine);
    dress(this.pin, {
      icon: 'pin',
      pressed: pinned,
      label: t(pinned ? 'room.unpin' : 'room.pin', { name: nameOf(person) }),
    });
    dress(this.ear, { icon: 'speaker', label: t('room.hear.of', { name: nameOf(person) }) });
  }

  /** Whether it stands over the others, in a corner that one chooses. @param {boolean} isFloating */
  float(isFloating) {
    const { element } = this;
    element.classList.toggle('floating', isFloating);
    element.title = isFloating ? t('room.self.move') : '';
    if (isFloating) element.tabIndex = 0;
    else element.removeAttribute('tabindex');
  }

  /** A finger can't hover: its tap shows the pin. */
  _tap() {
    clearTimeout(this.tapped);
    this.element.classList.add('tapped');
    this.tapped = setTimeout(() => this.element.classList.remove('tapped'), TAPPED);
  }

  /** A name stands in until the first picture has come. */
  _picture() {
    const { srcObject, readyState } = this.video;
    this.element.classList.toggle('with-picture', srcObject !== null && readyState >= this.video.HAVE_CURRENT_DATA);
  }

  _describe() {
    const { person, element } = this;
    const { displayName, isSelf, link, quality, status } = person;
    const name = nameOf(person);
    this.name.textContent = this.role === 'screen' ? t('room.screenOf', { name }) : name;
    element.setAttribute('aria-label', this.name.textContent);
    element.dataset.name = displayName;
    element.dataset.link = link;
    element.dataset.status = status;
    element.dataset.quality = quality.level;
    element.dataset.qualityReason = quality.reason;
    if (isSelf) element.dataset.self = '';
    else delete element.dataset.self;
  }

  /** @param {number} order */
  _marks(order) {
    const { person } = this;
    const isOff = this.role === 'camera' && (!person.audio || person.muted);
    const marks = [isOff && marked('mic-off', t('room.mark.muted')), isSilent(person) && marked('speaker-off', t('room.hear.isMuted'))];
    this.marks.replaceChildren(...marks.filter((mark) => mark !== false));
    this.hand.hidden = this.role !== 'camera' || !order;
    this.hand.replaceChildren(marked('hand', t('room.mark.hand', { order })), String(order));
  }

  /** @param {boolean} ownLine whether that of oneself is to blame, which is said elsewhere */
  _connection(ownLine) {
    const { person } = this;
    const { level, rttMs, loss, kbps } = person.quality;
    const words = this.role === 'camera' ? troubleOf(person) : '';
    this.trouble.hidden = !words || (ownLine && isOfTheLine(person));
    if (this.words.textContent !== words) this.words.textContent = words;
    this.bars.hidden = person.isSelf || this.role === 'screen' || person.link === 'connecting';
    this.bars.dataset.level = level;
    const figures = t('room.quality.figures', { rtt: Math.round(rttMs), loss: Math.round(loss * 100), kbps: Math.round(kbps) });
    this.bars.title = `${words || t('room.quality.good')} · ${figures}`;
  }

  /** @param {HTMLMediaElement} element @param {MediaStream | null} stream */
  _show(element, stream) {
    if (element.srcObject === stream) return;
    element.srcObject = stream;
    if (stream) void element.play().catch((error) => this._blocked(error));
  }

  /** @param {MediaStream | null} stream */
  _hear(stream) {
    void useSpeaker(this.audio, this.acts.speaker());
    Object.assign(this.audio, hearingOf(this.person));
    this._show(this.audio, this.person.isSelf ? null : stream);
  }

  /** @param {unknown} error */
  _blocked(error) {
    if (error instanceof DOMException && error.name === 'NotAllowedError') this.acts.onBlocked();
  }

  /** After a gesture, or when a phone gives the page back. */
  play() {
    for (const element of [this.video, this.audio]) {
      if (element.srcObject && element.paused) void element.play().catch((error) => this._blocked(error));
    }
  }

  remove() {
    this.video.srcObject = null;
    this.audio.srcObject = null;
    this.element.remove();
  }
}

/** All seats. */
export class Seats {
  /**
   * @param {HTMLElement} element
   * @param {Room} room
   * @param {{ onBlocked: () => void, onChange: () => void, onOwnScreen: (seat: Seat) => void, speaker: () => string }} acts
   */
  constructor(element, room, acts) {
    this._element = element;
    this._room = room;
    this._acts = acts;
    /** @type {Map<string, Seat>} */
    this._seats = new Map();
    /** What is pinned: a key; '' for nothing chosen; 'none' when the reader wants the grid. */
    this.pinned = '';
    this.view = /** @type {View} */ (recall('view', 'grid'));
    /** Where one's own small picture stands. */
    this.corner = recall('corner', 'bottom right');
    /** What turns the pages, once there were many. @type {import('./pager.js').Pager | undefined} */
    this.pager = undefined;
    /** Who is shown in a window of its own. @type {{ person: Participant, width: number, height: number } | undefined} */
    this.outside = undefined;
    this.hideSelf = false;
    this.mirror = true;
    /** Screens that are to be seen in a call without pictures, by key. @type {Set<string>} */
    this._asked = new Set();
    new ResizeObserver(() => this.arrange()).observe(element);
    onLanguage(() => this.render());
  }

  /** Make the seats what the room is; live elements stay. */
  render() {
    const people = this._room.participants;
    const wanted = new Map(people.flatMap((one) => seatsOf(one).map((role) => [keyOf(one, role), { one, role }])));
    for (const [key, seat] of this._seats) {
      const now = wanted.get(key);
      if (!now || now.one !== seat.person) this._drop(key, seat);
    }
    const hands = raised(people);
    const ownLine = isOwnLine(people);
    if (this._room.data !== 'audio') this._asked.clear();
    for (const [key, { one, role }] of wanted) {
      const seat = this._seats.get(key) ?? this._add(one, role);
      const order = hands.indexOf(one) + 1;
      seat.render({ pinned: this.pinned === key, mirrored: this.mirror, order, ownLine, isHeld: this._isHeld(key, one) });
    }
    this.arrange();
  }

  /** @param {Participant} person @param {Role} role */
  _add(person, role) {
    const onPin = () => this.pin(keyOf(person, role));
    const onMove = (/** @type {Event} */ event) => {
      const { element } = seat;
      if (!element.classList.contains('floating')) return;
      if (event instanceof PointerEvent && event.target !== seat.pin) element.setPointerCapture(event.pointerId); // as long as it is down
      bring(({ take }) => take(event, element, this));
    };
    const onAsk = () => {
      this._asked.add(keyOf(person, role));
      this.render();
    };
    const seat = new Seat(person, role, { onPin, onMove, onAsk, ...this._acts });
    this._seats.set(seat.key, seat);
    this._element.append(seat.element);
    if (person.isSelf && role === 'screen') this._acts.onOwnScreen(seat);
    return seat;
  }

  /** @param {string} key @param {Seat} seat */
  _drop(key, seat) {
    seat.remove();
    this._seats.delete(key);
    if (this.pinned === 'none' && !hasScreens(this._seats)) this.pinned = '';
    if (this.pinned === key) this.pinned = '';
  }

  /** Pin, or the other way. @param {string} key */
  pin(key) {
    const isLarge = this._large().some((seat) => seat.key === key);
    if (this.pinned === key || (!this.pinned && isLarge)) this.pinned = hasScreens(this._seats) ? 'none' : '';
    else this.pinned = key;
    this.render();
    this._acts.onChange();
  }

  /** Put every seat in its place, and tell the engine how large each is shown. */
  arrange() {
    const area = { width: this._element.clientWidth, height: this._element.clientHeight };
    if (!area.width || !area.height) return;
    const shown = this._shown();
    const chosen = this._large();
    const large = chosen.length ? chosen : this._front(shown);
    // Over what fills the stage there is but oneself.
    const isFilled = large.length > 0 && (this.view === 'speaker' || (this.view === 'grid' && !chosen.length));
    const beside = shown.filter((seat) => !large.includes(seat) && !(isFilled && !seat.person.isSelf));
    const own = beside.filter(({ person }) => person.isSelf);
    const isDuet = isFilled && own.every(({ role }) => role === 'camera');
    const beyond = beside.filter((seat) => !own.includes(seat));
    if (beside.length > FEW && !this.pager) this._bringPager();
    const page = this.pager?.show(large.length, beyond, own.length, area) ?? { others: beyond, area };
    const order = [...large, ...page.others, ...own];
    const small = order.length - large.length;
    const places = isDuet
      ? duet(area, this.corner, large.length)
      : large.length
        ? focus(large.length, small, page.area)
        : grid(small, page.area);
    for (const seat of this._seats.values()) {
      seat.element.hidden = !order.includes(seat);
      seat.float(isDuet && seat === own[0]);
    }
    order.forEach((seat, at) => put(seat.element, places[at]));
    Object.assign(this._element.dataset, { layout: isDuet ? 'duet' : large.length ? 'focus' : 'grid', corner: this.corner });
    this._tellSizes(new Map(order.map((seat, at) => [seat.key, places[at]])));
  }

  _bringPager() {
    bring(({ Pager }) => {
      this.pager ??= new Pager(this._element, () => this.arrange());
      this.arrange();
    });
  }

  /** Those to be seen: others first, oneself last. */
  _shown() {
    const all = [...this._seats.values()].filter(({ person, role }) => !(person.isSelf && role === 'camera' && this.hideSelf));
    return all.sort((one, other) => Number(one.person.isSelf) - Number(other.person.isSelf));
  }

  /** What is to be large, whatever the view: what is pinned, else the others' screens. */
  _large() {
    const shown = this._shown();
    const pinned = shown.filter(({ key }) => key === this.pinned);
    if (pinned.length || this.pinned === 'none') return pinned;
    return shown.filter(({ role, person }) => role === 'screen' && !person.isSelf);
  }

  /** Who is large by the view: who speaks; of two in a grid the other. @param {Seat[]} shown */
  _front(shown) {
    const others = shown.filter(({ person, role }) => !person.isSelf && role === 'camera');
    if (this.view === 'grid') return others.length === 1 && shown.length < 3 ? others : [];
    return others.filter(({ person }) => person === this._room.speaker).concat(others).slice(0, 1);
  }

  /** In a call without pictures a screen comes when it is asked for. @param {string} key @param {Participant} person */
  _isHeld(key, { isSelf }) {
    return this._room.data === 'audio' && !isSelf && !this._asked.has(key);
  }

  /** @param {Map<string, Place>} places */
  _tellSizes(places) {
    for (const one of this._room.participants) {
      if (one.isSelf) continue;
      const [camera, screen] = /** @type {Role[]} */ (['camera', 'screen']).map((role) => {
        const key = keyOf(one, role);
        const outside = role === 'camera' && this.outside?.person === one ? this.outside : undefined;
        return this._isHeld(key, one) ? null : pixels(places.get(key) ?? outside);
      });
      this._room.setView(one, { camera, screen });
    }
  }

  /** Send the sound to the speaker that is chosen now. */
  useSpeaker() {
    for (const seat of this._seats.values()) void useSpeaker(seat.audio, this._acts.speaker());
  }

  play() {
    for (const seat of this._seats.values()) seat.play();
  }

  /** What a recording takes: pictures in their places, and sounds. */
  sources() {
    const shown = [...this._seats.values()].filter(({ element }) => !element.hidden);
    return shown.map(({ element, video, audio, name }) => ({ element, video, audio, name: name.textContent ?? '' }));
  }

  clear() {
    for (const [key, seat] of this._seats) this._drop(key, seat);
  }
}

/** @param {Participant} person @param {Role} role */
const keyOf = (person, role) => `${role}:${person.clientId}`;

/** @param {Participant} person @returns {Role[]} */
const seatsOf = ({ streams }) => (streams.screen ? ['camera', 'screen'] : ['camera']);

/** Whether one of the others shares a screen. @param {Map<string, Seat>} seats */
const hasScreens = (seats) => [...seats.values()].some(({ role, person }) => role === 'screen' && !person.isSelf);

/** Whose hands are up, the first one first; one's own is the last until the server has its time. @param {Participant[]} people */
export function raised(people) {
  const up = people.filter(({ hand }) => hand);
  const since = (/** @type {Participant} */ { handAt }) => (handAt ? Date.parse(handAt) : Infinity);
  return up.sort((one, other) => since(one) - since(other) || one.id - other.id);
}

/** @param {HTMLElement} element @param {Place} place */
function put(element, { left, top, width, height }) {
  Object.assign(element.style, { width: `${width}px`, height: `${height}px`, transform: `translate(${left}px, ${top}px)` });
}

/** @param {import('./grid.js').Size | undefined} place */
function pixels(place) {
  if (!place) return null;
  const ratio = window.devicePixelRatio || 1;
  return { width: Math.round(place.width * ratio), height: Math.round(place.height * ratio) };
}

/** Fetched when it is asked for. @param {Participant} person @param {() => void} onChange */
export const openHearing = (person, onChange) => withPart(import('./hearing.js'), ({ openHearing: open }) => open(person, nameOf(person), onChange));

/** Whether nothing of somebody is heard here. @param {Participant} person */
export function isSilent(person) {
  const { volume, muted } = hearingOf(person);
  return muted || !volume;
}

/** What is wrong with the connection to somebody, in words; empty when nothing is. @param {Participant} person */
export function troubleOf(person) {
  const { isSelf, status, link, quality } = person;
  if (isSelf) return quality.reason === 'cpu' ? t('room.quality.ownCpu') : '';
  if (link === 'failed') return t('room.quality.noPath');
  if (status === 'reconnecting') return t('room.link.away', { name: nameOf(person) });
  if (link === 'connecting') return t('room.link.connecting');
  if (link === 'interrupted') return t('room.quality.interrupted');
  return quality.level !== 'good' && quality.reason in REASONS ? t(REASONS[quality.reason]) : '';
}

/** @param {string} name @param {string} text */
function marked(name, text) {
  const mark = h('span', { class: 'mark', role: 'img', 'aria-label': text, title: text });
  mark.append(icon(name));
  return mark;
}

/** Two letters at most, whole characters. @param {string} name */
export function initials(name) {
  const words = name.trim().split(/\s+/).map(firstCharacter);
  return [words[0], words.length > 1 ? words[words.length - 1] : ''].join('').toLocaleUpperCase(document.documentElement.lang);
}
