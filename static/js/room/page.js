/** The page of a video room: before joining, the tiles, the controls. */
import { ApiError } from '../api.js';
import { onLanguage, t } from '../i18n.js';
import { banner, byId, errorBanner, h, startPage } from '../page.js';
import { Room } from '../room.js';
import { cameraConstraints, hindrance, openDevice } from './devices.js';

/** @typedef {import('../room.js').Participant} Participant */

const query = new URLSearchParams(location.search);
const roomId = decodeURIComponent(location.pathname.replace(/^.*\/room\//, ''));
const transport = query.get('transport') === 'websocket' ? 'websocket' : 'sse';
const room = new Room(roomId, { transport });
const main = byId('main');

// ---- devices ---------------------------------------------------------------------------------

/** @type {Record<import('./devices.js').Hindrance, string>} */
const CAMERA_TEXTS = {
  insecure: 'room.camera.insecure',
  unsupported: 'room.camera.unsupported',
  denied: 'room.camera.denied',
  none: 'room.camera.none',
  busy: 'room.camera.busy',
  unknown: 'room.camera.unknown',
};
/** @type {Record<import('./devices.js').Hindrance, string>} */
const MICROPHONE_TEXTS = {
  insecure: 'room.microphone.insecure',
  unsupported: 'room.microphone.unsupported',
  denied: 'room.microphone.denied',
  none: 'room.microphone.none',
  busy: 'room.microphone.busy',
  unknown: 'room.microphone.unknown',
};

/** What hinders, by device. @type {Map<string, string>} */
const hindrances = new Map();
/** @type {MediaStreamTrack | undefined} */
let camera;

async function openCamera() {
  hindrances.delete('camera');
  try {
    camera = await openDevice('video', cameraConstraints(room.capture));
    await room.setTrack('camera', camera);
    /** @type {HTMLVideoElement} */ (byId('preview')).srcObject = new MediaStream([camera]);
  } catch (error) {
    hindrances.set('camera', CAMERA_TEXTS[hindrance(error)]);
  }
}

async function closeCamera() {
  camera?.stop();
  camera = undefined;
  await room.setTrack('camera', null);
}

async function openMicrophone() {
  hindrances.delete('microphone');
  try {
    await room.setTrack('microphone', await openDevice('audio'));
  } catch (error) {
    hindrances.set('microphone', MICROPHONE_TEXTS[hindrance(error)]);
  }
}

function renderHindrances() {
  const notices = [...hindrances].map(([device, key]) => {
    const shown = banner('warn', t(key));
    shown.dataset.notice = device;
    return shown;
  });
  byId('notices').replaceChildren(...notices);
}

// ---- tiles -----------------------------------------------------------------------------------

/** @type {Map<Participant, HTMLElement>} */
const tiles = new Map();

/** @param {Participant} participant */
function makeTile(participant) {
  const tile = h(
    'div',
    { class: 'tile', 'data-tile': participant.clientId, 'data-self': participant.isSelf },
    h('video', { 'data-role': 'camera', autoplay: true, playsinline: true, muted: true }),
    h('audio', { 'data-role': 'audio', autoplay: true }),
    h('p', { class: 'name' }),
    h('p', { class: 'trouble', 'data-trouble': true, role: 'status' }),
  );
  /** @type {HTMLVideoElement} */ (tile.querySelector('video')).muted = true;
  tiles.set(participant, tile);
  byId('grid').append(tile);
  return tile;
}

/** @param {Participant} participant */
function renderTile(participant) {
  const tile = tiles.get(participant) ?? makeTile(participant);
  const { link, quality, status, displayName, streams } = participant;
  Object.assign(tile.dataset, {
    name: displayName,
    link,
    status,
    quality: quality.level,
    qualityReason: quality.reason,
  });
  /** @type {HTMLElement} */ (tile.querySelector('.name')).textContent = displayName;
  /** @type {HTMLElement} */ (tile.querySelector('.trouble')).textContent = troubleOf(participant);
  play(/** @type {HTMLVideoElement} */ (tile.querySelector('video')), streams.camera);
  play(/** @type {HTMLAudioElement} */ (tile.querySelector('audio')), streams.audio);
}

/** @param {HTMLMediaElement} element @param {MediaStream | null} stream */
function play(element, stream) {
  if (element.srcObject === stream) return;
  element.srcObject = stream;
  if (stream) void element.play().catch(() => {});
}

/** @type {Record<import('../quality.js').Quality['reason'], string>} */
const QUALITY_TEXTS = {
  '': '',
  loss: 'room.poor.loss',
  delay: 'room.poor.delay',
  jitter: 'room.poor.jitter',
  interrupted: 'room.interrupted',
  'no-path': 'room.noPath',
  cpu: 'room.poor.cpu',
};

/** @param {Participant} participant */
function troubleOf({ status, quality }) {
  if (status === 'reconnecting') return t('room.connectionLost');
  const key = QUALITY_TEXTS[quality.reason];
  return key ? t(key) : '';
}

// ---- phases ----------------------------------------------------------------------------------

/** @type {Record<string, string>} */
const LEFT_TEXTS = {
  left: 'room.left',
  elsewhere: 'room.left.elsewhere',
  removed: 'room.left.removed',
  denied: 'room.left.denied',
  ended: 'room.left.ended',
};

function renderPhase() {
  const { phase, reason } = room;
  main.dataset.phase = phase === 'idle' ? 'prejoin' : phase;
  main.dataset.reason = reason;
  byId('prejoin').hidden = phase !== 'idle' && phase !== 'joining';
  byId('lobby').hidden = phase !== 'waiting';
  byId('grid').hidden = byId('controls').hidden = phase !== 'joined';
  byId('left').hidden = phase !== 'left';
  byId('left-why').textContent = phase === 'left' ? t(LEFT_TEXTS[reason] ?? 'room.left.refused') : '';
  if (phase === 'joined' && room.self) renderTile(room.self);
  byId('name').textContent = room.info.name ?? t('room.heading');
}

function renderControls() {
  const { self } = room;
  button('microphone').setAttribute('aria-pressed', String(self?.audio ?? false));
  button('camera').setAttribute('aria-pressed', String(self?.video ?? false));
  main.dataset.signalling = room.signalling;
  byId('signalling').textContent = room.signalling === 'reconnecting' ? t('room.reconnecting') : '';
}

function render() {
  renderHindrances();
  renderPhase();
  renderControls();
  for (const participant of room.participants) renderTile(participant);
}

/** @param {string} action @returns {HTMLButtonElement} */
function button(action) {
  return /** @type {HTMLButtonElement} */ (document.querySelector(`[data-action="${action}"]`));
}

/** @type {Record<string, string>} */
const REFUSAL_TEXTS = {
  not_found: 'room.refused.notFound',
  removed: 'room.left.removed',
  room_locked: 'room.refused.locked',
  wrong_password: 'room.refused.password',
  room_full: 'room.refused.full',
  lobby_full: 'room.refused.full',
};

/** @param {unknown} error */
function showRefusal(error) {
  const key = error instanceof ApiError ? REFUSAL_TEXTS[error.code] : undefined;
  const shown = key ? banner('error', t(key)) : errorBanner(error);
  shown.dataset.notice = error instanceof ApiError ? error.code : 'unexpected';
  byId('join-error').replaceChildren(shown);
  if (error instanceof ApiError && error.code === 'wrong_password') byId('password-field').hidden = false;
}

async function join() {
  byId('join-error').replaceChildren();
  const name = /** @type {HTMLInputElement} */ (byId('display-name')).value.trim();
  const password = /** @type {HTMLInputElement} */ (byId('password')).value;
  try {
    await room.join({ displayName: name || undefined, password: password || undefined });
  } catch (error) {
    showRefusal(error);
  }
}

function wire() {
  for (const name of ['added', 'changed']) room.on(name, renderTile);
  room.on('removed', (/** @type {Participant} */ participant) => {
    tiles.get(participant)?.remove();
    tiles.delete(participant);
  });
  for (const name of ['phase', 'info']) room.on(name, renderPhase);
  for (const name of ['self', 'signalling']) room.on(name, renderControls);
  room.on('phase', () => {
    if (room.phase !== 'left') return;
    for (const tile of tiles.values()) tile.remove();
    tiles.clear();
  });
  byId('prejoin').addEventListener('submit', (event) => {
    event.preventDefault();
    void join();
  });
  button('microphone').addEventListener('click', () => room.setMuted(!room.isMuted));
  button('camera').addEventListener('click', () => void (camera ? closeCamera() : openCamera()).then(renderHindrances));
  button('leave').addEventListener('click', () => void room.leave());
  button('rejoin').addEventListener('click', () => void room.join().catch(showRefusal));
  addEventListener('pagehide', () => room.goSoon());
  onLanguage(render);
}

async function start() {
  wire();
  await startPage();
  /** @type {HTMLInputElement} */ (byId('display-name')).value = query.get('name') ?? '';
  await Promise.all([openCamera(), openMicrophone(), lookAtRoom()]);
  render();
  main.dataset.ready = '';
  if (query.has('join') && room.info.kioskJoin) await join();
}

async function lookAtRoom() {
  try {
    room.info = await room.look();
    byId('password-field').hidden = !room.info.hasPassword;
  } catch (error) {
    showRefusal(error);
  }
}

void start();
