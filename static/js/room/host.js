/** What the host may do: let in who waits, act on somebody, set the room. Fetched by whoever is the host. */
import { t } from '../i18n.js';
import { announce, byId, errorTitle, h } from '../page.js';
import { fieldError, wireForm } from '../forms.js';
import { ask, said, toast } from './dom.js';
import { nameOf } from './names.js';
import { inOrder } from './people.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('../room.js').Participant} Participant */
/** @typedef {Parameters<Room['act']>[1]} Action */

export class HostTools {
  /** @param {Room} room */
  constructor(room) {
    this._room = room;
    this._lock = box('room-lock');
    this._lobby = box('room-lobby');
    this._field = h('input', {
      ...{ id: 'new-room-password', name: 'password', maxlength: '1024', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false' },
      'aria-describedby': 'new-room-password-error password-now',
    });
    this._now = h('p', { id: 'password-now', class: 'hint' });
    this._drop = button('drop-password', 'room.host.drop');
    this._form = h(
      'form',
      { id: 'room-password', class: 'stack', novalidate: true },
      h(
        'div',
        { class: 'field' },
        said('label', 'room.host.password', { for: 'new-room-password' }),
        h('div', { class: 'revealable' }, this._field, said('button', 'room.host.set', { class: 'small' })),
        h('p', { id: 'new-room-password-error', class: 'field-error' }),
        this._now,
      ),
      h('div', { class: 'form-error' }),
      this._drop,
    );
    this._muteAll = button('mute-all', 'room.host.muteAll');
    this._end = button('end-room', 'room.host.end', 'small danger');
    this.element = h(
      'section',
      { id: 'host-tools', class: 'stack', 'aria-labelledby': 'host-title' },
      said('h3', 'room.host.title', { id: 'host-title' }),
      switched(this._lock, 'room.host.lock'),
      switched(this._lobby, 'room.host.lobby'),
      this._form,
      this._muteAll,
      this._end,
    );
    this._waitingTitle = h('h3', { id: 'waiting-title' });
    this._admitAll = button('admit-all', 'room.people.admitAll');
    this._list = h('ul', { id: 'waiting-list', class: 'plain' });
    this._waiting = h(
      'section',
      { id: 'waiting', class: 'stack', 'aria-labelledby': 'waiting-title' },
      h('div', { class: 'row end' }, this._waitingTitle, this._admitAll),
      this._list,
    );
    byId('people-list').before(this._waiting);
    byId('people-list').after(this.element);
    this._wire();
  }

  render() {
    const { info, isHost } = this._room;
    this._renderWaiting();
    this.element.hidden = !isHost;
    this._lock.checked = info.locked;
    this._lobby.checked = info.lobby;
    this._now.textContent = t(info.hasPassword ? 'room.host.hasPassword' : 'room.host.noPassword');
    this._drop.hidden = !info.hasPassword;
  }

  /** The lobby. */
  _renderWaiting() {
    const { waiting } = this._room;
    this._waiting.hidden = !waiting.length;
    this._waitingTitle.textContent = t('room.waiting.title', { count: waiting.length });
    this._admitAll.hidden = waiting.length < 2;
    const old = new Map([...this._list.children].map((row) => [/** @type {HTMLElement} */ (row).dataset.person, row]));
    inOrder(this._list, waiting.map((one) => /** @type {HTMLElement} */ (old.get(String(one.id)) ?? this._guest(one))));
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

  /** Of somebody's menu. @param {Participant} person @returns {import('./dom.js').Item[]} */
  items(person) {
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

  _wire() {
    const room = this._room;
    const admitAll = async () => {
      for (const one of room.waiting) await room.act(one, 'admit'); // of a full room is told once
    };
    this._admitAll.addEventListener('click', () => void run(admitAll));
    for (const [one, name] of /** @type {[HTMLInputElement, string][]} */ ([[this._lock, 'locked'], [this._lobby, 'lobby']])) {
      one.addEventListener('change', async () => {
        await run(() => room.update({ [name]: one.checked }));
        this.render(); // what is shown is what the server has
      });
    }
    const field = this._field;
    wireForm(this._form, {
      check: () => fieldError(field, field.value ? undefined : () => t('room.host.needPassword')),
      send: async () => {
        await room.update({ password: field.value });
        field.value = '';
        announce(t('room.host.hasPassword'));
      },
    });
    this._drop.addEventListener('click', () => void run(() => room.update({ password: null })));
    const muteAll = () => Promise.all(room.participants.map((one) => (one.isSelf || one.muted ? undefined : room.act(one, 'mute'))));
    this._muteAll.addEventListener('click', () => void run(muteAll));
    const end = () => confirmed(() => room.end(), t('room.host.endTitle'), t('room.host.endText'), t('room.host.end'));
    this._end.addEventListener('click', () => void end());
  }
}

/** @param {string} id */
const box = (id) => h('input', { id, type: 'checkbox' });

/** @param {HTMLInputElement} input @param {string} text */
const switched = (input, text) => h('label', { class: 'switch', for: input.id }, input, said('span', text));

/** @param {string} id @param {string} text @param {string} [look] */
const button = (id, text, look = 'small') => said('button', text, { id, type: 'button', class: look });

/** A host's act; a refusal is said. @param {() => Promise<unknown>} act */
async function run(act) {
  try {
    await act();
  } catch (error) {
    toast(errorTitle(error));
  }
}

/** @param {() => Promise<unknown>} act @param {string} title @param {string} text @param {string} yes */
async function confirmed(act, title, text, yes) {
  if (await ask(title, text, yes)) await run(act);
}
