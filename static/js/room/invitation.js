/** How others find the room: what shows it comes when it is asked for. */
import { byId } from '../page.js';
import { withPart } from './dom.js';

export class Invitation {
  /** @param {import('../room.js').Room} room */
  constructor(room) {
    this._room = room;
    for (const id of ['open-invite', 'alone-invite']) byId(id).addEventListener('click', () => this.open());
  }

  open() {
    withPart(import('./invite.js'), ({ invite }) => invite(this._room));
  }
}
