/** Who is in the room, who waits before it, and what its host may do. */
import { onLanguage, t } from '../i18n.js';
import { byId, errorTitle, h } from '../page.js';
import { ask, icon, said, toast, wireMenu } from './dom.js';
import { nameOf } from './names.js';
import { isSilent, openHearing, raised, troubleOf } from './seats.js';
import { hear, hearingOf } from './sound.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('../room.js').Participant} Participant */

/** @typedef {Parameters<Room['act']>[1]} Action */

/** A line of a list, kept as long as its person is there: menus stay open, the focus stays. */
class Line {
  /** @param {Room} room @param {Participant} person @param {() => void} onChange */
  constructor(room, person, onChange) {
    this._room = room;
    this._onChange = onChange;
    this.person = person;
    this.name = h('bdi', { class: 'name' });
    this.marks = h('span', { class: 'line-marks' });
    this.trouble = h('span', { class: 'hint' });
    this.menu = h('div', { class: 'menu', role: 'menu', hidden: true });
    this.button = h('button', { type: 'button', class: 'small quiet', 'aria-haspopup': 'menu', 'aria-expanded': 'false' }, icon('more'));
    wireMenu(this.button, this.menu, () => this._items());
    this.element = h(
      'li',
      { class: 'line', 'data-person': person.clientId },
      h('span', { class: 'line-text' }, this.name, this.trouble),
      this.marks,
      this.button,
      this.menu,
    );
  }

  /** @param {number} order of raised hands */
  render(order) {
    const { person } = this;
    this.name.textContent = nameOf(person);
    this.trouble.textContent = troubleOf(person);
    this.button.hidden = person.isSelf;
    this.button.setAttribute('aria-label', t('room.people.actions', { name: nameOf(person) }));
    const marks = [
      person.isHost ? h('span', { class: 'badge' }, t('room.people.host')) : undefined,
      order ? mark('hand', t('room.mark.hand', { order }), String(order)) : undefined,
      person.screen ? mark('screen', t('room.mark.screen')) : undefined,
      person.muted ? mark('mic-off', t('room.mark.mutedByHost'), '!') : undefined,
      !person.muted ? mark(person.audio ? 'mic' : 'mic-off', t(person.audio ? 'room.mark.unmuted' : 'room.mark.muted')) : undefined,
      mark(hasPicture(person) ? 'camera' : 'camera-off', t(hasPicture(person) ? 'room.mark.picture' : 'room.mark.noPicture')),
      isSilent(person) ? mark('speaker-off', t('room.hear.isMuted')) : undefined,
    ];
    this.marks.replaceChildren(...marks.filter((one) => one !== undefined));
  }

  _items() {
    return [...this._ownItems(), ...(this._room.isHost ? this._hostItems() : [])];
  }

  /** What concerns nobody but oneself. */
  _ownItems() {
    const { person, _onChange: onChange } = this;
    const { muted } = hearingOf(person);
    const mute = () => {
      hear(person, { muted: !muted });
      onChange();
    };
    return [
      { key: 'volume', icon: 'speaker', text: t('room.hear.volume'), act: () => openHearing(person, onChange) },
      { key: 'mute-here', icon: 'speaker-off', text: t('room.hear.mute'), pressed: muted, act: mute },
    ];
  }

  _hostItems() {
    const { person } = this;
    const name = nameOf(person);
    /** @param {string} key @param {Action} action @param {string} look */
    const item = (key, action, look) => ({ key, icon: look, text: t(key), act: () => void run(() => this._room.act(person, action)) });
    return [
      person.muted ? item('room.host.unmute', 'unmute', 'mic') : item('room.host.mute', 'mute', 'mic-off'),
      person.cameraOff ? item('room.host.cameraOn', 'camera-on', 'camera') : item('room.host.cameraOff', 'camera-off', 'camera-off'),
      {
        ...item('room.host.makeHost', 'make-host', 'people'),
        act: () => void confirmed(() => this._room.act(person, 'make-host'), t('room.host.makeHostTitle', { name }), t('room.host.makeHostText'), t('room.host.makeHost')),
      },
      {
        ...item('room.host.remove', 'remove', 'close'),
        danger: true,
        act: () => void confirmed(() => this._room.act(person, 'remove'), t('room.host.removeTitle', { name }), t('room.host.removeText'), t('room.host.remove')),
      },
    ];
  }
}

/** @param {Participant} person */
const hasPicture = (person) => person.video && !person.cameraOff;

export class People {
  /** @param {Room} room @param {() => void} onChange */
  constructor(room, onChange) {
    this._room = room;
    this._onChange = onChange;
    /** @type {Map<string, Line>} */
    this._lines = new Map();
    /** @type {Promise<import('./host.js').HostTools> | undefined} */
    this._tools = undefined;
    this._wire();
    onLanguage(() => this.render());
  }

  render() {
    const panel = byId('people');
    const hadFocus = panel.contains(document.activeElement);
    this._renderAll();
    const isLost = !panel.contains(document.activeElement) || !document.activeElement?.getClientRects().length;
    if (hadFocus && isLost) byId('people-title').focus(); // it went with its line
  }

  _renderAll() {
    const people = this._room.participants;
    const hands = raised(people);
    byId('people-title').textContent = t('room.people.title', { count: people.length });
    const ordered = [...hands, ...people.filter((one) => !hands.includes(one))];
    for (const [id, { person }] of this._lines) if (!people.includes(person)) this._lines.delete(id);
    const lines = ordered.map((one) => this._line(one));
    lines.forEach((line, at) => line.render(hands.indexOf(ordered[at]) + 1));
    inOrder(byId('people-list'), lines.map(({ element }) => element));
    this._host();
    this.renderWaiting();
  }

  /** @param {Participant} person */
  _line(person) {
    const line = this._lines.get(person.clientId) ?? new Line(this._room, person, this._onChange);
    this._lines.set(person.clientId, line);
    return line;
  }

  // The lobby

  renderWaiting() {
    const { waiting } = this._room;
    byId('waiting').hidden = !waiting.length;
    byId('waiting-title').textContent = t('room.waiting.title', { count: waiting.length });
    byId('admit-all').hidden = waiting.length < 2;
    const list = byId('waiting-list');
    const old = new Map([...list.children].map((row) => [/** @type {HTMLElement} */ (row).dataset.person, row]));
    inOrder(list, waiting.map((one) => /** @type {HTMLElement} */ (old.get(String(one.id)) ?? this._guest(one))));
  }

  /** @param {Participant} person */
  _guest(person) {
    const button = (/** @type {string} */ key, /** @type {Action} */ action, /** @type {string} */ look) => {
      const made = said('button', key, { type: 'button', class: look, 'data-act': action, 'aria-describedby': `waits-${person.id}` });
      made.addEventListener('click', () => void run(() => this._room.act(person, action)));
      return made;
    };
    return h(
      'li',
      { class: 'line', 'data-person': String(person.id) },
      h('bdi', { class: 'line-text', id: `waits-${person.id}` }, nameOf(person)),
      h('span', { class: 'row' }, button('room.people.admit', 'admit', 'small primary'), button('room.people.deny', 'deny', 'small')),
    );
  }

  /** Once one is the host; what could not be fetched is asked for again at the next look. */
  _host() {
    if (!this._room.isHost && !this._tools) return;
    this._tools ??= import('./host.js').then(({ HostTools }) => new HostTools(this._room));
    this._tools.then((tools) => tools.render(), () => (this._tools = undefined));
  }

  _wire() {
    const room = this._room;
    const admitAll = async () => {
      for (const one of room.waiting) await room.act(one, 'admit'); // of a full room is told once
    };
    byId('admit-all').addEventListener('click', () => void run(admitAll));
  }
}

/** A host's act; a refusal is said. @param {() => Promise<unknown>} act */
export async function run(act) {
  try {
    await act();
  } catch (error) {
    toast(errorTitle(error));
  }
}

/** @param {() => Promise<unknown>} act @param {string} title @param {string} text @param {string} yes */
export async function confirmed(act, title, text, yes) {
  if (await ask(title, text, yes)) await run(act);
}

/** @param {string} name @param {string} text @param {string} [word] */
function mark(name, text, word) {
  const made = h('span', { class: 'mark', role: 'img', 'aria-label': text, title: text });
  made.append(icon(name), word ?? '');
  return made;
}

/** Put children into an order without touching those that stand right: they keep the focus. @param {HTMLElement} list @param {HTMLElement[]} wanted */
function inOrder(list, wanted) {
  for (const child of [...list.children]) {
    if (!wanted.includes(/** @type {HTMLElement} */ (child))) child.remove();
  }
  wanted.forEach((one, at) => {
    if (list.children[at] !== one) list.insertBefore(one, list.children[at] ?? null);
  });
}
