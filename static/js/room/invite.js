/** The dialog by which others are invited: the room's link, as a text and as a picture, and its code. */
import { byId, copyFrom, h } from '../page.js';
import { openDialog, said } from './dom.js';
import { makeDialog, named } from './parts.js';

/** @typedef {import('../room.js').Room} Room */

/** @type {HTMLDialogElement | undefined} */
let dialog;

/** @param {Room} room */
export async function invite(room) {
  dialog ??= make(room);
  show(room, room.info.joinUrl);
  openDialog(dialog);
  // Since one has joined, the server's address may have changed, and with it the link.
  const { joinUrl } = await room.look().catch(() => room.info);
  show(room, joinUrl);
}

/** @param {Room} room */
function make(room) {
  const link = h('pre', { id: 'invite-link', tabindex: '0', role: 'region', 'aria-labelledby': 'invite-link-label' });
  const copy = said('button', 'room.invite.copy', { id: 'copy-link', type: 'button', class: 'primary small' });
  const share = said('button', 'room.invite.share', { id: 'share-link', type: 'button', class: 'small', hidden: !navigator.share });
  copy.addEventListener('click', () => void copyFrom(copy, link));
  // The reader may think better of it.
  share.addEventListener('click', () => void navigator.share({ title: room.info.name, url: link.textContent ?? '' }).catch(() => {}));
  const label = said('span', 'room.invite.link', { id: 'invite-link-label', class: 'label' });
  const words = h(
    'div',
    { class: 'stack' },
    h('div', { class: 'field' }, label, link),
    h('div', { class: 'row' }, copy, share),
    h('p', { class: 'hint' }, said('span', 'room.invite.code'), ' ', h('code', { id: 'invite-code' }, room.roomId)),
    said('p', 'room.invite.password', { id: 'invite-password', class: 'hint' }),
  );
  const code = h('img', { id: 'invite-qr', class: 'qr', width: '180', height: '180', ...named({ alt: 'room.invite.qr' }) });
  const local = said('p', 'room.invite.local', { id: 'invite-local', class: 'banner warn' });
  return makeDialog('invite', 'room.invite.title', [local, h('div', { class: 'invite-columns' }, code, words)]);
}

/** @param {Room} room @param {string} link */
function show({ info, roomId }, link) {
  byId('invite-link').textContent = link;
  byId('invite-password').hidden = !info.hasPassword;
  byId('invite-local').hidden = !/^(localhost|127\.|\[::1\])/.test(new URL(link).hostname);
  const code = new URL(`../api/video/rooms/${encodeURIComponent(roomId)}/qr.svg`, location.href);
  code.searchParams.set('at', link); // another link is another picture
  const image = /** @type {HTMLImageElement} */ (byId('invite-qr'));
  if (image.src !== code.href) image.src = code.href;
}
