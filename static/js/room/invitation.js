/** How others find the room: what shows it comes when it is asked for. */
import { byId } from '../page.js';
import { withPart } from './dom.js';

export class Invitation {
  /** @param {import('../room.js').Room} room */
  constructor(room) {
    this._room = room;
    for (const id of ['open-invite', 'alone-invite']) byId(id).addEventListener('click', () => this.open());
  }

  /** To whoever has just made the call: until somebody comes. */
  offer() {
    history.replaceState(history.state, '', location.pathname + location.search);
    if (this._room.participants.length > 1) return;
    this.open();
    const close = () => {
      this._room.off('added', close);
      /** @type {HTMLDialogElement | null} */ (document.getElementById('invite-dialog'))?.close();
    };
    this._room.on('added', close);
  }

  open() {
    withPart(import('./invite.js'), ({ invite }) => invite(this._room));
  }
}
