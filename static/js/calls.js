/** Video calls on the start page: those that everybody may find, a code or link to enter, a new one. */
import { clearErrors, fieldError, wireForm } from './forms.js';
import { onLanguage, t } from './i18n.js';
import { makeCall, openCalls, roomPage } from './open-calls.js';
import { byId, h, redraw } from './page.js';
import { ROOM } from './rules.js';
import { saysEnded } from './session.js';

/** @typedef {import('./open-calls.js').OpenCall} OpenCall */

const EVERY = 10_000; // ms between two looks
const MADE = /^[a-km-np-z2-9]{12}$/; // a code as the server makes them: capitals and groups are of whoever typed it

const makeForm = /** @type {HTMLFormElement} */ (byId('make-room'));
const joinForm = /** @type {HTMLFormElement} */ (byId('join-room'));
const roomField = /** @type {HTMLInputElement} */ (byId('room-id'));

/** @type {OpenCall[] | undefined} */
let open;
let isShown = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

export function wireCalls() {
  const name = /** @type {HTMLInputElement} */ (byId('room-name'));
  const make = async () => location.assign(roomPage((await makeCall({ name: name.value.trim() })).roomId, true));
  wireForm(makeForm, { send: make, refused: saysEnded });
  wireForm(joinForm, {
    check: () => fieldError(roomField, ROOM.test(wantedRoom()) ? undefined : () => t('calls.badId')),
    send: async () => location.assign(roomPage(wantedRoom())),
  });
  document.addEventListener('visibilitychange', look);
  onLanguage(render);
}

/** Show them in an element, or nowhere. @param {HTMLElement} [place] */
export function showCalls(place) {
  isShown = Boolean(place);
  if (place && byId('find').parentElement !== place) place.prepend(byId('find'));
  void look();
}

/** Leave nothing in the forms for whoever comes next. */
export function forgetCalls() {
  for (const form of [makeForm, joinForm]) {
    clearErrors(form);
    form.reset();
  }
}

async function look() {
  clearTimeout(timer);
  if (!isShown || document.hidden) return;
  open = await openCalls().catch(() => open); // the old ones, until the server is back
  render();
  clearTimeout(timer);
  timer = setTimeout(look, EVERY);
}

function render() {
  const calls = open;
  if (!calls) return;
  redraw(byId('open-calls'), calls, () => calls.map(callItem));
  byId('no-calls').hidden = calls.length > 0;
}

/** @param {OpenCall} call */
function callItem({ roomId, name, hasPassword, full, participantCount }) {
  const about = [
    participantCount === 0 ? t('calls.nobody') : participantCount && t('calls.inside', { count: participantCount }),
    full && t('calls.full'),
    hasPassword && t('calls.password'),
  ];
  const words = h('div', {}, h('strong', {}, h('bdi', {}, name)), h('p', { class: 'hint' }, about.filter(Boolean).join(' · ')));
  const join = h('a', { class: 'button primary', href: roomPage(roomId).href, 'aria-label': t('calls.joinNamed', { name }) }, t('calls.join'));
  return h('li', { class: 'open-call' }, words, join);
}

/** What was typed: a room's link, also amid other words, or its code, as it was copied or read out. */
function wantedRoom() {
  const text = roomField.value.replace(/[\p{Cf}\p{Pi}\p{Pf}"'<>]/gu, '').trim();
  const code = text.replace(/\s/g, '').toLowerCase();
  return /\broom\/([\w-]+)/i.exec(text)?.[1] ?? (MADE.test(code) ? code : text);
}
