/** How others find the room: its link, as a text and as a picture, and its code. */
import { byId, copyFrom } from '../page.js';
import { openDialog } from './dom.js';

/** @typedef {import('../room.js').Room} Room */

export class Invitation {
  /** @param {Room} room */
  constructor(room) {
    this._room = room;
    for (const id of ['open-invite', 'alone-invite']) byId(id).addEventListener('click', () => void this.open());
    const copy = /** @type {HTMLButtonElement} */ (byId('copy-link'));
    copy.addEventListener('click', () => void copyFrom(copy, byId('invite-link')));
    byId('share-link').addEventListener('click', () => void this._share());
  }

  async open() {
    this._show(this._room.info.joinUrl);
    openDialog(/** @type {HTMLDialogElement} */ (byId('invite-dialog')));
    // Since one has joined, the server's address may have changed, and with it the link.
    const { joinUrl } = await this._room.look().catch(() => this._room.info);
    this._show(joinUrl);
  }

  /** @param {string} link */
  _show(link) {
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

  async _share() {
    const url = byId('invite-link').textContent ?? '';
    await navigator.share({ title: this._room.info.name, url }).catch(() => {}); // the reader may think better of it
  }
}
