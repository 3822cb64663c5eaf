/** The host's tools, below the list of people: fetched by whoever is the host. */
import { t } from '../i18n.js';
import { announce, byId, h } from '../page.js';
import { fieldError, wireForm } from '../forms.js';
import { said } from './dom.js';
import { confirmed, run } from './people.js';

/** @typedef {import('../room.js').Room} Room */

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
    byId('people-list').after(this.element);
    this._wire();
  }

  render() {
    const { info, isHost } = this._room;
    this.element.hidden = !isHost;
    this._lock.checked = info.locked;
    this._lobby.checked = info.lobby;
    this._now.textContent = t(info.hasPassword ? 'room.host.hasPassword' : 'room.host.noPassword');
    this._drop.hidden = !info.hasPassword;
  }

  _wire() {
    const room = this._room;
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
