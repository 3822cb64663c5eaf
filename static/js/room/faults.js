/** What to say of a camera or microphone that doesn't work, and what to do about it on this system. */
import { isolated, t } from '../i18n.js';
import { banner, h } from '../page.js';
import { said } from './dom.js';

/** @typedef {import('./devices.js').Devices} Devices */
/** @typedef {import('./devices.js').Kind} Kind */
/** @typedef {import('./devices.js').Fault} Fault */

/** @type {Record<Kind, Record<Fault, string>>} */
const WORDS = {
  video: {
    insecure: 'room.camera.insecure',
    unsupported: 'room.camera.unsupported',
    denied: 'room.camera.denied',
    dismissed: 'room.camera.dismissed',
    system: 'room.camera.system',
    policy: 'room.camera.policy',
    none: 'room.camera.none',
    busy: 'room.camera.busy',
    gone: 'room.camera.gone',
    ends: 'room.camera.ends',
    slow: 'room.camera.slow',
    failed: 'room.camera.failed',
  },
  audio: {
    insecure: 'room.mic.insecure',
    unsupported: 'room.mic.unsupported',
    denied: 'room.mic.denied',
    dismissed: 'room.mic.dismissed',
    system: 'room.mic.system',
    policy: 'room.mic.policy',
    none: 'room.mic.none',
    busy: 'room.mic.busy',
    gone: 'room.mic.gone',
    ends: 'room.mic.ends',
    slow: 'room.mic.slow',
    failed: 'room.mic.failed',
  },
};

/** @typedef {'windows' | 'mac' | 'ios' | 'android' | 'linux'} System */

/** @type {Record<System, string>} */
const IN_SYSTEM = {
  windows: 'room.fix.windows',
  mac: 'room.fix.mac',
  ios: 'room.fix.ios',
  android: 'room.fix.android',
  linux: 'room.fix.linux',
};
/** @type {Record<'chromium' | 'firefox' | 'safari' | 'ios' | 'android', string>} */
const IN_BROWSER = {
  chromium: 'room.fix.chromium',
  firefox: 'room.fix.firefox',
  safari: 'room.fix.safari',
  ios: 'room.fix.iosBrowser',
  android: 'room.fix.androidBrowser',
};
/** @type {Partial<Record<Fault, string>>} */
const OTHERWISE = {
  unsupported: 'room.fix.otherBrowser',
  dismissed: 'room.fix.again',
  policy: 'room.fix.policy',
  none: 'room.fix.plugIn',
  busy: 'room.fix.busy',
  gone: 'room.fix.plugIn',
  ends: 'room.fix.replug',
  slow: 'room.fix.slow',
  failed: 'room.fix.replug',
};

/** Of one device, where another may do. */
const OF_ONE = /^(busy|gone|ends|slow|failed)$/;
const ALIAS = /^(default|communications)$/; // Chromium's, of one that is listed too

/** @returns {System} where this browser runs */
function system() {
  const agent = navigator.userAgent;
  if (/iPhone|iPad|iPod/.test(agent) || (/Mac/.test(agent) && navigator.maxTouchPoints > 1)) return 'ios';
  if (/Android/.test(agent)) return 'android';
  if (/Windows/.test(agent)) return 'windows';
  return /Mac/.test(agent) ? 'mac' : 'linux';
}

function browser() {
  const where = system();
  if (where === 'ios' || where === 'android') return where;
  if (/Firefox/.test(navigator.userAgent)) return 'firefox';
  return /Chrom/.test(navigator.userAgent) ? 'chromium' : 'safari';
}

/** What to do, as a text. @param {Fault} fault */
export function advice(fault) {
  if (fault === 'denied') return t(IN_BROWSER[browser()]);
  if (fault === 'system') return t(IN_SYSTEM[system()]);
  return fault in OTHERWISE ? t(/** @type {string} */ (OTHERWISE[fault])) : '';
}

/** @param {Kind} kind @param {Fault} fault */
export const faultText = (kind, fault) => t(WORDS[kind][fault]);

/**
 * A fault in words, with what to do and a button to try again.
 * @param {Kind[]} kinds of device that have it: what to do is the same for each
 * @param {Fault} fault
 * @param {() => void} again
 * @param {Devices} devices
 */
export function faultBanner([kind, ...others], fault, again, devices) {
  const help = advice(fault);
  const button = said('button', 'room.fix.retry', { type: 'button', class: 'small', 'data-retry': kind });
  button.addEventListener('click', again);
  const act = fault === 'insecure' ? secureLink() : fault === 'unsupported' ? undefined : h('div', { class: 'row' }, button);
  if (OF_ONE.test(fault)) act?.append(...[kind, ...others].flatMap((one) => offers(devices, one)));
  const more = others.map((one) => h('p', { class: 'title', 'data-also': `${one}-${fault}` }, faultText(one, fault)));
  const made = banner('warn', faultText(kind, fault), ...more, help ? h('p', { class: 'body' }, help) : undefined, act);
  made.dataset.fault = fault;
  made.dataset.notice = `${kind}-${fault}`;
  return made;
}

/** Another program or a phone call has it, or it gives nothing, as a virtual one may. @param {Kind} kind @param {Devices} devices */
export function takenBanner(kind, devices) {
  const button = said('button', 'room.notice.takeBack', { type: 'button', class: 'small' });
  button.addEventListener('click', () => void devices.choose(kind, devices.chosen[kind]));
  const text = t(kind === 'video' ? 'room.notice.cameraTaken' : 'room.notice.micTaken');
  return banner('warn', text, h('div', { class: 'row' }, button, ...offers(devices, kind)));
}

/** Buttons that take another device in place of one's own, by its name. @param {Devices} devices @param {Kind} kind */
export function offers(devices, kind) {
  const all = devices.lists[kind].filter(({ deviceId, label }) => label && !ALIAS.test(deviceId));
  const others = all.filter(({ deviceId }) => all.length > 1 && deviceId !== devices.inUse(kind));
  return others.map(({ deviceId, label }) => {
    const button = h('button', { type: 'button', class: 'small', 'data-use': deviceId }, t('room.fix.use', { name: isolated(label) }));
    button.addEventListener('click', () => void devices.choose(kind, deviceId));
    return button;
  });
}

/** This page at its secure address. */
function secureLink() {
  const { host, pathname, search } = location;
  const address = `https:/${'/'}${host}${pathname}${search}`;
  return h('p', { class: 'body' }, said('a', 'room.fix.secure', { href: address }));
}
