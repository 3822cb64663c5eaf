/**
 * The dialog by which others are invited: the room's link, as a text and as a picture, and its code;
 * an e-mail, an appointment, the system's own sharing. As long as the link leads nowhere but to this
 * computer, it holds what changes that, or says who can.
 */
import { api } from '../api.js';
import { onLanguage, t } from '../i18n.js';
import { changeNetwork, mayChange, network } from '../network.js';
import { announce, banner, byId, copyFrom, errorBanner, h, saveFile } from '../page.js';
import { openDialog, said } from './dom.js';
import { calendar } from './ics.js';
import { makeDialog, named, styled } from './parts.js';

/** @typedef {import('../room.js').Room} Room */

const HOUR = 3_600_000; // ms
const LOOKS = 10; // until the address is there
const PAUSE = 300; // ms between two of them

await styled();

/** @type {{ dialog: HTMLDialogElement, parts: ReturnType<typeof make> } | undefined} */
let made;
/** The link that is shown. */
let shown = '';

/** @param {Room} room */
export async function invite(room) {
  made ??= build(room);
  show(room, room.info.joinUrl);
  openDialog(made.dialog);
  // Since one has joined, the server's address may have changed, and with it the link.
  await refresh(room);
  if (isLocal(shown)) await offerSharing();
}

/** @param {Room} room */
async function refresh(room) {
  const { joinUrl } = await room.look().catch(() => room.info);
  show(room, joinUrl);
}

/** @param {Room} room */
function build(room) {
  const parts = make(room);
  const { local, share, code, words } = parts;
  onLanguage(() => show(room, shown));
  return { parts, dialog: makeDialog('invite', 'room.invite.title', [local, share, h('div', { class: 'invite-columns' }, code, words)]) };
}

/** @param {Room} room */
function make(room) {
  const link = h('pre', { id: 'invite-link', tabindex: '0', role: 'region', 'aria-labelledby': 'invite-link-label' });
  const copy = said('button', 'room.invite.copy', { id: 'copy-link', type: 'button', class: 'small' });
  const mail = said('a', 'room.invite.mail', { id: 'mail-link', class: 'button small' });
  const send = said('button', 'room.invite.share', { id: 'share-link', type: 'button', class: 'small', hidden: !navigator.share });
  copy.addEventListener('click', () => void copyFrom(copy, link));
  // The reader may think better of it.
  send.addEventListener('click', () => void navigator.share({ title: room.info.name, text: subject(room), url: shown }).catch(() => {}));
  const when = appointment(room);
  const label = said('span', 'room.invite.link', { id: 'invite-link-label', class: 'label' });
  const number = h('p', { class: 'hint' }, said('span', 'room.invite.code'), ' ', h('code', { id: 'invite-code' }, room.roomId));
  const password = said('p', 'room.invite.password', { id: 'invite-password', class: 'hint' });
  const words = h('div', { class: 'stack' }, h('div', { class: 'field' }, label, link), h('div', { class: 'row' }, copy, mail, send), when, number, password);
  const code = h('img', { id: 'invite-qr', class: 'qr', width: '180', height: '180', ...named({ alt: 'room.invite.qr' }) });
  const local = said('p', 'room.invite.ask', { id: 'invite-local', class: 'banner warn' });
  const share = h('div', { id: 'invite-share', class: 'stack', hidden: true }, ...sharing(room));
  return { link, copy, mail, send, when, number, password, words, code, local, share };
}

/** @param {Room} room @param {string} link */
function show({ info, roomId }, link) {
  if (!made) return;
  shown = link;
  const { parts } = made;
  const here = isLocal(link);
  parts.link.textContent = link;
  parts.password.hidden = !info.hasPassword;
  parts.local.hidden = !here || !parts.share.hidden;
  if (!here) parts.share.hidden = true;
  // What leads to nobody is no invitation.
  for (const part of [parts.code, parts.number, parts.mail, parts.when]) part.hidden = here;
  parts.send.hidden = here || !navigator.share;
  parts.copy.classList.toggle('primary', !here);
  const body = t('room.invite.mailBody', { name: info.name, link, code: roomId }).replace(/\n/g, '\r\n');
  parts.mail.href = `mailto:?subject=${encodeURIComponent(subject({ info }))}&body=${encodeURIComponent(body)}`;
  const code = new URL(`../api/video/rooms/${encodeURIComponent(roomId)}/qr.svg`, location.href);
  code.searchParams.set('at', link); // another link is another picture
  if (parts.code.src !== code.href) parts.code.src = code.href;
}

/** @param {{ info: any }} room */
const subject = ({ info }) => t('room.invite.subject', { name: info.name });

/** @param {string} link */
const isLocal = (link) => /^(localhost|127\.|\[::1\])/.test(new URL(link).hostname);

// ---- on this network -----------------------------------------------------------------------------

/** Whoever may share the server does it here; others are told whom to ask. */
async function offerSharing() {
  const { role } = await api('GET', 'api/auth/me').catch(() => ({ role: '' }));
  const view = role === 'admin' ? await network().catch(() => undefined) : undefined;
  if (!made || !isLocal(shown)) return;
  const { local, share } = made.parts;
  const key = role === 'admin' ? 'room.invite.local' : 'room.invite.ask';
  local.dataset.i18n = key;
  local.textContent = t(key);
  const isOffered = view !== undefined && mayChange(view);
  share.hidden = !isOffered;
  local.hidden = isOffered;
}

/** @param {Room} room */
function sharing(room) {
  const box = h('input', { id: 'invite-sharing', type: 'checkbox', role: 'switch', 'aria-describedby': 'invite-sharing-hint' });
  const trouble = h('div');
  box.addEventListener('change', async () => {
    box.disabled = true;
    trouble.replaceChildren();
    try {
      const { state, fault } = await changeNetwork({ share: box.checked });
      if (state === 'failed') trouble.append(banner('error', t('room.invite.failed'), fault ? h('p', { lang: 'en' }, fault) : undefined));
      else if (box.checked) await awaitAddress(room);
    } catch (error) {
      trouble.append(errorBanner(error));
    }
    box.disabled = false;
    box.checked = !isLocal(shown);
    if (box.checked) return announceShared();
    if (!trouble.firstChild) trouble.append(banner('error', t('room.invite.failed')));
    box.focus();
  });
  const label = h('label', { class: 'switch', for: 'invite-sharing' }, box, said('b', 'room.invite.sharing'));
  return [label, said('p', 'room.invite.sharingHint', { id: 'invite-sharing-hint', class: 'hint' }), trouble];
}

/** It is there a moment after the network is. @param {Room} room */
async function awaitAddress(room) {
  for (let look = 0; look < LOOKS && isLocal(shown); look += 1) {
    if (look) await new Promise((resolve) => setTimeout(resolve, PAUSE));
    await refresh(room);
  }
}

function announceShared() {
  announce(t('room.invite.shared'));
  byId('copy-link').focus();
}

// ---- an appointment ------------------------------------------------------------------------------

/** @param {Room} room */
function appointment(room) {
  const next = new Date(Math.ceil((Date.now() + 1) / HOUR) * HOUR);
  const start = h('input', { id: 'invite-start', type: 'datetime-local', required: true });
  start.value = next.toLocaleString('sv').slice(0, 16).replace(' ', 'T'); // Swedish is ISO 8601
  const save = said('button', 'room.invite.calendarSave', { id: 'calendar-save', class: 'small' });
  const form = h('form', { class: 'row appointment' }, h('div', { class: 'field' }, said('label', 'room.invite.start', { for: 'invite-start' }), start), save);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    saveCalendar(room, new Date(start.value));
  });
  return h('details', { id: 'invite-calendar' }, said('summary', 'room.invite.calendar'), form);
}

/** @param {Room} room @param {Date} start */
function saveCalendar({ info, roomId }, start) {
  const text = t('room.invite.mailBody', { name: info.name, link: shown, code: roomId });
  const uid = `${roomId}-${start.getTime()}@${new URL(shown).hostname}`;
  const content = calendar({ uid, now: new Date(), start, minutes: 60, title: info.name, text, url: shown });
  saveFile(new Blob([content], { type: 'text/calendar' }), `${roomId}.ics`);
}
