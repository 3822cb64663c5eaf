/** Who is in the room; the host's part of it is in host.js. */
import { onLanguage, t } from '../i18n.js';
import { byId, h } from '../page.js';
import { icon, withPart, wireMenu } from './dom.js';
import { nameOf } from './names.js';
import { isSilent, openHearing, raised, troubleOf } from './seats.js';
import { hear, hearingOf } from './sound.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('../room.js').Participant} Participant */
/** @typedef {import('./dom.js').Item} Item */

/** A line of a list, kept as long as its person is there: menus stay open, the focus stays. */
class Line {
  /** @param {Participant} person @param {() => void} onChange @param {() => Item[]} more of its menu */
  constructor(person, onChange, more) {
    this._onChange = onChange;
    this.person = person;
    this.name = h('bdi', { class: 'name' });
    this.marks = h('span', { class: 'line-marks' });
    this.trouble = h('span', { class: 'hint' });
    this.menu = h('div', { class: 'menu', role: 'menu', hidden: true });
    this.button = h('button', { type: 'button', class: 'small quiet', 'aria-haspopup': 'menu', 'aria-expanded': 'false' }, icon('more'));
    wireMenu(this.button, this.menu, () => [...this._items(), ...more()]);
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

  /** What concerns nobody but oneself. */
  _items() {
    const { person, _onChange: onChange } = this;
    const { muted } = hearingOf(person);
    const mute = () => {
      hear(person, { muted: !muted });
      onChange();
    };
    const verify = () => withPart(import('./verify.js'), ({ openVerify }) => void openVerify(person.peer?.descriptions ?? [undefined], nameOf(person)));
    return [
      { key: 'volume', icon: 'speaker', text: t('room.hear.volume'), act: () => openHearing(person, onChange) },
      { key: 'mute-here', icon: 'speaker-off', text: t('room.hear.mute'), pressed: muted, act: mute },
      { key: 'verify', icon: 'lock', text: t('room.verify.open'), act: verify },
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
    /** @type {import('./host.js').HostTools | undefined} */
    this._tools = undefined;
    /** @type {Promise<void> | undefined} */
    this._coming = undefined;
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
  }

  /** @param {Participant} person */
  _line(person) {
    const more = () => (this._room.isHost && this._tools?.items(person)) || [];
    const line = this._lines.get(person.clientId) ?? new Line(person, this._onChange, more);
    this._lines.set(person.clientId, line);
    return line;
  }

  /** The tools, once one is the host; what could not be fetched is asked for again at the next look. */
  _host() {
    if (this._tools || !this._room.isHost) return this._tools?.render();
    this._coming ??= import('./host.js').then(
      ({ HostTools }) => {
        this._tools = new HostTools(this._room);
        this._tools.render();
      },
      () => {
        this._coming = undefined;
      },
    );
    return undefined;
  }
}

/** @param {string} name @param {string} text @param {string} [word] */
function mark(name, text, word) {
  const made = h('span', { class: 'mark', role: 'img', 'aria-label': text, title: text });
  made.append(icon(name), word ?? '');
  return made;
}

/** Put children into an order without touching those that stand right: they keep the focus. @param {HTMLElement} list @param {HTMLElement[]} wanted */
export function inOrder(list, wanted) {
  for (const child of [...list.children]) {
    if (!wanted.includes(/** @type {HTMLElement} */ (child))) child.remove();
  }
  wanted.forEach((one, at) => {
    if (list.children[at] !== one) list.insertBefore(one, list.children[at] ?? null);
  });
}
