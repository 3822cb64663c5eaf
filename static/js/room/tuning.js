/** What few change in a call: how much data it takes, what is done to the sound and the picture, the devices. */
import { t } from '../i18n.js';
import { announce, byId, h } from '../page.js';
import { SOUNDS } from './devices.js';
import { said, wireMenu } from './dom.js';
import { remember } from './memory.js';

/** @typedef {import('./call.js').Call} Call */
/** @typedef {import('./devices.js').Devices} Devices */
/** @typedef {import('./devices.js').Choosable} Choosable */
/** @typedef {import('../encoder.js').Data} Data */

/** @type {Record<Data, string>} */
const DATA = { all: 'room.data.all', low: 'room.data.low', audio: 'room.data.audio' };
/** @type {Record<import('./devices.js').Sound, string>} */
const TEXTS = { voice: 'room.sound.voice', music: 'room.sound.music', plain: 'room.sound.plain' };
/** What stands in the menu beside a button. @type {Record<string, Choosable[]>} */
const MENUS = { audio: ['audio', 'speaker'], video: ['video'] };
/** @type {Record<Choosable, string>} */
const GROUPS = { audio: 'room.device.microphone', video: 'room.device.camera', speaker: 'room.device.speaker' };

// ---- data ----------------------------------------------------------------------------------------

/** What it was before there were no pictures. @type {{ data: Data, hasCamera: boolean }} */
let before = { data: 'all', hasCamera: false };

/**
 * For this call. One's own camera goes out with the pictures, and comes back with them.
 * @param {Call} call
 * @param {Data} [data] by default with pictures or without, the other way
 * @param {boolean} [hasCamera] afterwards, other than before
 */
export function setData({ room, devices, turn }, data = room.data === 'audio' ? before.data : 'audio', hasCamera = before.hasCamera) {
  const was = room.data;
  if (data === was) return;
  if (data === 'audio') before = { data: was, hasCamera: devices.on.video };
  room.setData(data);
  if (data === 'audio') turn('video', false);
  else if (was === 'audio' && hasCamera) turn('video', true);
  announce(t(DATA[data]));
}

// ---- the sound and the picture -------------------------------------------------------------------

/**
 * Have the microphone's sound be so: by the track that is open, else by another that takes its place.
 * @param {Devices} devices
 * @param {import('./devices.js').Sound} sound
 */
export async function tune(devices, sound) {
  devices.sound = sound;
  remember('sound', sound);
  if (await isTuned(devices)) return;
  await devices.reopen('audio');
  if (await isTuned(devices)) return;
  devices.tracks.audio?.stop(); // some browsers change nothing while the device is open
  await devices.reopen('audio');
}

/** @param {Devices} devices */
async function isTuned({ tracks: { audio: track }, sound }) {
  if (!track) return true;
  const { deviceId } = track.getSettings();
  await track.applyConstraints({ ...SOUNDS[sound], ...(deviceId && { deviceId: { exact: deviceId } }) }).catch(() => {});
  const now = track.getSettings();
  const names = /** @type {const} */ (['echoCancellation', 'noiseSuppression', 'autoGainControl']);
  return names.every((name) => now[name] === undefined || now[name] === SOUNDS[sound][name]);
}

/** Whether the camera that is open blurs the background or not, as one likes (W3C mediacapture-extensions). @param {Devices} devices */
export const canBlur = ({ tracks: { video } }) => /** @type {any} */ (video?.getCapabilities?.())?.backgroundBlur?.length > 1;

/** @param {Devices} devices @param {boolean} blur */
export async function setBlur(devices, blur) {
  devices.blur = blur;
  remember('blur', blur);
  const { video } = devices.tracks;
  await video?.applyConstraints(/** @type {any} */ ({ ...video.getConstraints(), backgroundBlur: blur })).catch(() => {});
}

/** Fields in the settings, as they stand now: made anew whenever those are opened. @param {Call} call */
export function tuning(call) {
  const { devices, room } = call;
  const data = choice('data', DATA, room.data, (value) => setData(call, value));
  const echo = said('p', 'room.sound.hint', { id: 'choose-sound-hint', class: 'hint' });
  const warn = () => (echo.hidden = devices.sound === 'voice');
  const sound = choice('sound', TEXTS, devices.sound, (value) => {
    void tune(devices, value);
    room.setMusic(value === 'music');
    warn();
  });
  warn();
  const blur = h('input', { id: 'blur', type: 'checkbox' });
  blur.checked = devices.blur;
  blur.addEventListener('change', () => void setBlur(devices, blur.checked));
  const made = h(
    'div',
    { id: 'tuning', class: 'stack' },
    h('div', { class: 'field' }, said('label', 'room.sound.title', { for: sound.id }), sound, echo),
    h('label', { class: 'switch', for: blur.id, hidden: !canBlur(devices) }, blur, said('span', 'room.blur')),
    h('div', { class: 'field' }, said('label', 'room.data.title', { for: data.id }), data, said('p', 'room.data.hint', { id: 'choose-data-hint', class: 'hint' })),
  );
  document.getElementById('tuning')?.remove();
  byId('settings-devices').append(made);
}

/**
 * @template {string} V
 * @param {string} name
 * @param {Record<V, string>} options
 * @param {V} now
 * @param {(value: V) => void} act
 */
function choice(name, options, now, act) {
  const all = /** @type {[V, string][]} */ (Object.entries(options));
  const field = h('select', { id: `choose-${name}`, 'aria-describedby': `choose-${name}-hint` }, ...all.map(([value, text]) => said('option', text, { value })));
  field.value = now;
  field.addEventListener('change', () => act(/** @type {V} */ (field.value)));
  return field;
}

// ---- devices beside their buttons ----------------------------------------------------------------

/** Wire the menu and open it. @param {HTMLElement} arrow @param {HTMLElement} menu @param {Call} call */
export function wireDevices(arrow, menu, { devices, settings }) {
  if (arrow.dataset.wired) return;
  arrow.dataset.wired = 'yes';
  const kinds = MENUS[menu.id.replace('-menu', '')];
  const open = () => settings.open();
  wireMenu(arrow, menu, () => [...kinds.flatMap((kind) => items(devices, kind)), { key: 'settings', icon: 'settings', text: t('room.settings.title'), act: open }]);
  arrow.click();
}

/** By the field of the settings. @param {Devices} devices @param {Choosable} kind @returns {import('./dom.js').Item[]} */
function items(devices, kind) {
  const field = /** @type {HTMLSelectElement} */ (byId(`device-${kind}`));
  if (field.disabled || field.parentElement?.hidden) return []; // none, or not to be chosen in this browser
  const group = t(GROUPS[kind]);
  return [...field.options].map(({ value, text, selected }) => ({ key: value, group, text, pressed: selected, act: () => void devices.choose(kind, value) }));
}
