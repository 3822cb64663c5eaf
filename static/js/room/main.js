/** The page of a room: before the call, in the lobby, in the call, and after it. */
import { api, ApiError } from '../api.js';
import { onLanguage, t } from '../i18n.js';
import { byId, errorBanner, startPage } from '../page.js';
import { wireReveals } from '../password.js';
import { roomSession } from '../roomsession.js';
import { Devices } from './devices.js';
import { said } from './dom.js';
import { canCall, Door } from './door.js';
import { Pickers } from './pickers.js';

/** @typedef {import('./devices.js').Kind} Kind */
/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('./call.js').Call} Call */

/** Where one is in words, by why one isn't in the call: [title, text, whether one may come back]. @type {Record<string, [string, string, boolean]>} */
const OVER = {
  left: ['room.over.left', 'room.over.leftText', true],
  elsewhere: ['room.over.elsewhere', 'room.over.elsewhereText', true],
  removed: ['room.over.removed', 'room.over.removedText', false],
  denied: ['room.over.denied', 'room.over.deniedText', false],
  ended: ['room.over.ended', 'room.over.endedText', false],
  'not admitted': ['room.over.unanswered', 'room.over.unansweredText', true],
  refused: ['room.over.refused', 'room.over.refusedText', true],
  not_found: ['room.over.notFound', 'room.over.notFoundText', false],
};
/** Which part of the page shows a phase. @type {Record<string, string>} */
const PARTS = { idle: 'door', joining: 'door', waiting: 'lobby', joined: 'call', left: 'over' };
const KINDS = /** @type {const} */ (['audio', 'video']);
const PATIENCE = 5_000; // ms for the server's answer
const LOOK = 10_000; // ms between two looks at who is inside, while one is at the door

wireReveals();
await startPage(); // the texts first: what is made below asks for them

const query = new URLSearchParams(location.search);
const roomId = decodeURIComponent(location.pathname.replace(/.*\/room\//, ''));
const session = roomSession(roomId);
const devices = new Devices();
const pickers = new Pickers(devices);
const join = async (/** @type {any} */ as) => (await inside()).join(as);
const door = new Door(roomId, devices, { turn, join, look: () => look(true), onGone: showOver });
/** @type {Room | undefined} */
let room;
/** @type {Call | undefined} */
let call;
/** @type {Promise<Room> | undefined} */
let coming;
/** Why there is no call: the engine's reason, or the server's word. */
let over = '';
let isIn = false;

/** The engine and what is shown in a call: fetched while one looks into the mirror. */
function inside() {
  coming ??= import('./inside.js').then(prepare, () => {
    coming = undefined; // so that another try asks again
    throw new ApiError({ status: 0, code: 'unreachable', title: t('error.unreachable') });
  });
  return coming;
}

/** @param {typeof import('./inside.js')} parts */
function prepare({ Room, Call }) {
  const transport = query.get('transport') === 'websocket' ? 'websocket' : 'sse';
  room = new Room(roomId, { transport, session });
  room.setMuted(!devices.on.audio);
  room.setMusic(devices.sound === 'music');
  for (const kind of KINDS) send(kind);
  call = new Call(room, devices, pickers, turn);
  room.on('phase', enter);
  return room;
}

/** Give the engine what a device gives now. @param {Kind} kind */
function send(kind) {
  void room?.setTrack(kind === 'audio' ? 'microphone' : 'camera', devices.tracks[kind] ?? null);
}

/** @param {Kind} kind @param {boolean} on */
function turn(kind, on) {
  if (kind === 'audio') room?.setMuted(!on);
  void devices.turn(kind, on);
}

/** @param {string} part */
function show(part) {
  for (const one of ['door', 'lobby', 'call', 'over']) byId(one).hidden = one !== part;
  document.documentElement.toggleAttribute('data-call', part === 'call');
}

/** @param {string} phase */
function enter(phase) {
  const main = byId('main');
  main.dataset.phase = phase === 'idle' ? 'prejoin' : phase;
  const reason = room?.reason ?? '';
  main.dataset.reason = reason;
  if (phase === 'left') return showOver(reason);
  over = '';
  const hasWaited = door.isWaiting || !byId('lobby').hidden;
  show(PARTS[phase]);
  door.showMirror(PARTS[phase]);
  if (phase === 'waiting') byId('lobby-title').focus();
  if (phase === 'joined') {
    isIn = true;
    call?.start(hasWaited);
    if (location.hash === '#new') call?.invitation.offer();
  }
}

/** @param {string} reason */
function showOver(reason) {
  over = reason;
  if (isIn) call?.stop();
  isIn = false;
  devices.stop();
  door.close();
  show('over');
  renderOver();
  byId('over-title').focus();
}

function renderOver() {
  if (!over) return;
  const [title, text, again] = OVER[over] ?? OVER.refused;
  byId('over-title').textContent = t(title);
  byId('over-text').textContent = t(text);
  byId('rejoin').hidden = !again;
  byId('rejoin').textContent = t(over === 'elsewhere' ? 'room.over.here' : 'room.over.rejoin');
  document.title = t('room.page', { name: t(title) });
}

/** Into the room again, with the devices as they were. */
async function rejoin() {
  void devices.start();
  try {
    await join(undefined);
  } catch (error) {
    show('door');
    if (!(error instanceof ApiError)) throw error;
    if (await look()) door.refuse(error);
  }
}

/** Ask the server for the room; as long as it can't be reached, say so, unless it is by the way. */
async function look(isByTheWay = false) {
  const place = /** @type {HTMLElement} */ (byId('join-form').querySelector('.form-error'));
  try {
    const path = `api/video/rooms/${encodeURIComponent(roomId)}`;
    const headers = { 'X-Session': session };
    door.show(await api('GET', path, undefined, { headers, signal: AbortSignal.timeout(PATIENCE) }));
    if (!isByTheWay) place.replaceChildren();
    return true;
  } catch (error) {
    const isOver = error instanceof ApiError && (error.status === 404 || error.code === 'removed');
    // Whoever waits in the lobby hears it, and why, by the stream.
    if (isOver && room?.phase !== 'waiting') showOver(error.code);
    else if (!isByTheWay) place.replaceChildren(unreached(error));
    return false;
  }
}

/** @param {unknown} error */
function unreached(error) {
  const made = errorBanner(error);
  const again = said('button', 'room.notice.retry', { type: 'button', class: 'small' });
  again.addEventListener('click', () => void look());
  made.append(again);
  return made;
}

/** Who is signed in needs no other name. */
async function suggestName() {
  const name = /** @type {HTMLInputElement} */ (byId('name'));
  if (name.value) return;
  const me = await api('GET', 'api/auth/me').catch(() => undefined);
  if (name.value || !me?.username) return;
  name.value = me.username;
  if (document.activeElement === name) name.select(); // what is typed now takes its place
}

function wire() {
  devices.addEventListener('track', (event) => send(/** @type {CustomEvent} */ (event).detail.kind));
  byId('rejoin').addEventListener('click', () => void rejoin());
  byId('lobby-leave').addEventListener('click', () => void room?.leave());
  addEventListener('pagehide', () => room?.goSoon());
  setInterval(() => {
    const isBefore = (!byId('door').hidden && !door.isWaiting) || room?.phase === 'waiting';
    if (isBefore && document.visibilityState === 'visible' && door.info) void look(true);
  }, LOOK);
  onLanguage(renderOver);
}

async function start() {
  door.restore();
  byId('door-devices').append(pickers.element);
  show('door');
  wire();
  void suggestName();
  const opening = canCall && devices.start();
  const isThere = await look();
  performance.mark('door');
  void inside().catch(() => {}); // asked for again by who joins
  await opening;
  byId('main').dataset.ready = '';
  if (isThere && door.info.kioskJoin && query.has('join')) door.enter();
}

await start();
