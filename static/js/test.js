/** The connection test: what a call needs, one thing after another, in words, with a report to copy. */
import { deviceName } from './agent.js';
import { api, ApiError, ROOT } from './api.js';
import './header.js';
import { onLanguage, t } from './i18n.js';
import { byId, copyFrom, h, startPage } from './page.js';
import { loudness, Meter } from './room/sound.js';

/** @typedef {'ok' | 'warn' | 'error'} Verdict */
/** What a check found: `say` is a key of the catalogue. @typedef {{ verdict: Verdict, say: string, detail?: string }} Found */
/** @typedef {{ name: string, run: () => Promise<Found> }} Check */

const SECONDS = 8;

/** @param {string} say @param {string} [detail] @returns {Found} */
const ok = (say, detail) => ({ verdict: 'ok', say, detail });
/** @param {string} say @param {string} [detail] @returns {Found} */
const warn = (say, detail) => ({ verdict: 'warn', say, detail });
/** @param {string} say @param {string} [detail] @returns {Found} */
const fail = (say, detail) => ({ verdict: 'error', say, detail });

/** @type {Record<Verdict, string>} */
const VERDICTS = { ok: 'test.ok', warn: 'test.warn', error: 'test.error' };

/** @type {Check[]} */
const CHECKS = [
  { name: 'test.browser', run: browser },
  { name: 'test.secure', run: secure },
  { name: 'test.camera', run: () => device({ video: true }) },
  { name: 'test.microphone', run: () => device({ audio: true }) },
  { name: 'test.server', run: server },
  { name: 'test.websocket', run: websocket },
  { name: 'test.stream', run: stream },
  { name: 'test.relay', run: relay },
  { name: 'test.direct', run: direct },
];

/** @type {{ check: Check, found: Found }[]} */
let results = [];
let running = false;
/** What is seen and heard now. @type {MediaStreamTrack[]} */
let tracks = [];
/** @type {Meter | undefined} */
let meter;
const picture = /** @type {HTMLVideoElement} */ (byId('picture'));
const bar = /** @type {HTMLProgressElement} */ (byId('bar'));

byId('stop').addEventListener('click', () => {
  stopDevices();
  byId('start').focus();
});
addEventListener('pagehide', stopDevices);
byId('start').addEventListener('click', () => void runAll());
byId('copy').addEventListener('click', () => void copyFrom(byId('copy'), byId('report')));
onLanguage(render);
await startPage();

async function runAll() {
  if (running) return;
  running = true;
  results = [];
  stopDevices();
  render();
  for (const check of CHECKS) {
    let found;
    try {
      found = await check.run();
    } catch (error) {
      found = fail('test.broken', String(error));
    }
    results.push({ check, found });
    render();
  }
  running = false;
  render();
}

function render() {
  byId('checks').hidden = byId('report-part').hidden = !results.length;
  byId('checks').replaceChildren(...results.map(item));
  byId('report').textContent = report();
  bar.hidden = !running;
  bar.max = CHECKS.length;
  bar.value = results.length;
  byId('start').hidden = running;
  byId('start').dataset.i18n = results.length ? 'test.again' : 'test.start';
  byId('start').textContent = t(byId('start').dataset.i18n ?? '');
  const { verdict, text } = outcome();
  byId('verdict').dataset.verdict = verdict;
  byId('progress').textContent = text;
}

/** The whole in a sentence. */
function outcome() {
  const next = CHECKS[results.length];
  if (running && next) return { verdict: '', text: t('test.now', { name: t(next.name) }) };
  if (!results.length) return { verdict: '', text: '' };
  const count = (/** @type {Verdict} */ verdict) => results.filter(({ found }) => found.verdict === verdict).length;
  if (count('error')) return { verdict: 'error', text: t('test.troubles', { count: count('error') }) };
  return { verdict: count('warn') ? 'warn' : 'ok', text: t('test.fine') };
}

/** Camera and microphone are off again. */
function stopDevices() {
  for (const track of tracks) track.stop();
  tracks = [];
  meter?.close();
  meter = undefined;
  picture.srcObject = null;
  byId('live').hidden = true;
}

/** The reader's own picture, or how loud they are, as long as they look at it. @param {MediaStreamTrack} track */
function showDevice(track) {
  tracks.push(track);
  byId('live').hidden = false;
  picture.hidden = !tracks.some(({ kind }) => kind === 'video');
  if (track.kind === 'video') {
    picture.srcObject = new MediaStream([track]);
    return;
  }
  meter = new Meter(track);
  requestAnimationFrame(showLevel);
}

function showLevel() {
  if (!meter) return;
  /** @type {HTMLMeterElement} */ (byId('level')).value = loudness(meter.level);
  requestAnimationFrame(showLevel);
}

/** @param {{ check: Check, found: Found }} result */
function item({ check, found }) {
  return h(
    'li',
    { class: 'check', 'data-check': check.name, 'data-say': found.say, 'data-verdict': found.verdict },
    h('span', { class: `badge ${found.verdict}` }, t(VERDICTS[found.verdict])),
    h('strong', {}, t(check.name)),
    h('span', { class: 'hint' }, t(found.say)),
    found.detail ? h('span', { class: 'hint', lang: 'en' }, found.detail) : undefined,
  );
}

function report() {
  const lines = results.map(({ check, found }) => {
    const detail = found.detail ? `(${found.detail})` : '';
    return `${t(check.name)}: ${t(VERDICTS[found.verdict])}. ${t(found.say)} ${detail}`.trimEnd();
  });
  return [`rtapp ${location.protocol}//${location.host}`, [deviceName(), navigator.userAgent].filter(Boolean).join(', '), new Date().toISOString(), ...lines].join('\n');
}

async function browser() {
  const can = 'RTCPeerConnection' in window && 'WebSocket' in window && 'ReadableStream' in window;
  return can ? ok('test.browserOk') : fail('test.browserOld');
}

async function secure() {
  if (isSecureContext) return ok('test.secureOk', location.protocol);
  return fail('test.secureNo', location.origin);
}

/** @param {MediaStreamConstraints} wanted */
async function device(wanted) {
  if (!navigator.mediaDevices) return fail('test.deviceHidden');
  try {
    const media = await navigator.mediaDevices.getUserMedia(wanted);
    const [track] = media.getTracks();
    showDevice(track);
    return ok(wanted.video ? 'test.cameraOk' : 'test.microphoneOk', track.label);
  } catch (error) {
    const name = error instanceof DOMException ? error.name : String(error);
    if (name === 'NotAllowedError') return fail('test.deviceRefused', name);
    if (name === 'NotFoundError') return warn('test.deviceNone', name);
    return fail('test.deviceBusy', name);
  }
}

async function server() {
  const began = performance.now();
  try {
    await api('GET', 'healthz');
    return ok('test.serverOk', `${Math.round(performance.now() - began)} ms`);
  } catch (error) {
    return fail('test.serverNo', String(error));
  }
}

/** Engine.IO greets whoever connects, so this needs no sign-in. */
async function websocket() {
  const address = new URL('socket.io/?EIO=4&transport=websocket', ROOT);
  address.protocol = address.protocol.replace('http', 'ws');
  const socket = new WebSocket(address);
  const greeted = new Promise((done) => {
    socket.onmessage = () => done(true);
    socket.onerror = socket.onclose = () => done(false);
  });
  const works = await within(greeted, false);
  socket.close();
  return works ? ok('test.websocketOk') : warn('test.websocketNo');
}

/** A refusal arrives on the same way as a stream would. */
async function stream() {
  const stop = new AbortController();
  try {
    const answer = await within(fetch(new URL('api/events', ROOT), { signal: stop.signal, cache: 'no-store' }), undefined);
    if (!answer) return fail('test.streamNo');
    if (!answer.ok) return ok('test.streamAnswers', String(answer.status));
    const first = await within(answer.body?.getReader().read() ?? Promise.resolve(undefined), undefined);
    return first?.value ? ok('test.streamOk') : warn('test.streamHeld');
  } catch (error) {
    return fail('test.streamNo', String(error));
  } finally {
    stop.abort();
  }
}

/** Whether the servers that are to be used for calls answer. */
async function relay() {
  /** @type {RTCIceServer[]} */
  let servers;
  try {
    servers = (await api('GET', 'api/ice')).iceServers;
  } catch (error) {
    return error instanceof ApiError && error.status === 401 ? ok('test.relayInRoom') : warn('test.relayNo', String(error));
  }
  if (!servers.length) return ok('test.relayNone');
  const wanted = servers.some((one) => [one.urls].flat().some((url) => url.startsWith('turn'))) ? 'relay' : 'srflx';
  const connection = new RTCPeerConnection({ iceServers: servers });
  const found = new Promise((done) => {
    connection.onicecandidate = ({ candidate }) => candidate?.type === wanted && done(true);
  });
  connection.createDataChannel('test');
  await connection.setLocalDescription();
  const works = await within(found, false);
  connection.close();
  return works ? ok('test.relayOk', wanted) : warn('test.relayNo', wanted);
}

/** Two connections of this page find each other, as two people on one network would. */
async function direct() {
  if (!('RTCPeerConnection' in window)) return fail('test.browserOld');
  const [one, other] = [new RTCPeerConnection(), new RTCPeerConnection()];
  try {
    one.onicecandidate = ({ candidate }) => void other.addIceCandidate(candidate ?? undefined).catch(() => {});
    other.onicecandidate = ({ candidate }) => void one.addIceCandidate(candidate ?? undefined).catch(() => {});
    const channel = one.createDataChannel('test');
    const opened = new Promise((done) => {
      channel.onopen = () => done(true);
    });
    await one.setLocalDescription();
    if (one.localDescription) await other.setRemoteDescription(one.localDescription);
    await other.setLocalDescription();
    if (other.localDescription) await one.setRemoteDescription(other.localDescription);
    return (await within(opened, false)) ? ok('test.directOk') : fail('test.directNo', one.iceConnectionState);
  } finally {
    one.close();
    other.close();
  }
}

/**
 * @template T, U
 * @param {Promise<T>} promise
 * @param {U} otherwise when it takes too long
 * @returns {Promise<T | U>}
 */
function within(promise, otherwise) {
  return Promise.race([
    promise,
    new Promise((/** @type {(value: U) => void} */ done) => setTimeout(() => done(otherwise), SECONDS * 1000)),
  ]);
}
