/**
 * What one can do in a call, in one table: the bar, the menu, the shortcuts and the sheet that shows
 * them are made of it. One more is a row here, its act, and a line in each catalogue.
 */
import { t } from '../i18n.js';
import { byId, h } from '../page.js';
import { bring, dress, withPart, wireMenu } from './dom.js';
import { switchLook } from './door.js';
import { showKeys, wireKeys } from './keys.js';
import { canRecord } from './recording.js';

/** @typedef {import('./call.js').Call} Call */
/** @typedef {import('./dom.js').Look} Look */
/**
 * @typedef {object} Control
 * @property {string} id of its button in the bar, or of its entry in the menu
 * @property {string} text its name's key
 * @property {string} [icon]
 * @property {string} [key] which does it too
 * @property {string} [help] what the sheet says of the key, where that is more than its name
 * @property {'bar' | 'wide' | 'menu' | 'key'} place the bar; the bar where it is wide, else the menu; the menu; or none but its key
 * @property {(call: Call) => void} [act]
 * @property {(call: Call, down: boolean) => void} [held] what a key does as long as it is held
 * @property {(call: Call) => boolean} [visible]
 * @property {(call: Call) => Partial<Look>} [look] what its button shows besides its name
 * @property {'chat' | 'people'} [opens] a panel
 * @property {Record<string, string>} [attributes] of its button
 * @property {string} [choose] what to name the choice of its devices by, beside it
 */

/** @type {Control[]} */
export const CONTROLS = [
  {
    ...{ id: 'audio', text: 'room.mic.short', key: 'm', help: 'room.keys.mic', place: 'bar' },
    attributes: { 'data-action': 'microphone' },
    choose: 'room.device.chooseSound',
    look: (call) => switchLook('audio', call.isSending('audio')),
    act: (call) => call.switch('audio'),
  },
  {
    ...{ id: 'video', text: 'room.camera.short', key: 'v', help: 'room.keys.camera', place: 'bar' },
    attributes: { 'data-action': 'camera' },
    choose: 'room.device.chooseCamera',
    look: (call) => switchLook('video', call.isSending('video')),
    act: (call) => (call.room.data === 'audio' ? setData(call, undefined, true) : call.switch('video')), // a call without pictures ends
  },
  { id: 'talk', text: 'room.keys.talk', key: ' ', place: 'key', held: (call, down) => call.talk(down) },
  {
    ...{ id: 'screen', icon: 'screen', text: 'room.screen.short', key: 'd', help: 'room.keys.screen', place: 'wide' },
    visible: () => canShare,
    look: ({ isSharing: isOn }) => ({ label: t('room.screen.label'), hint: t(isOn ? 'room.screen.stop' : 'room.screen.start'), pressed: isOn }),
    act: (call) => call.share(),
  },
  {
    ...{ id: 'hand', icon: 'hand', text: 'room.hand.short', key: 'r', help: 'room.keys.hand', place: 'bar' },
    look: ({ room: { hand } }) => ({ label: t('room.hand.label'), hint: t(hand ? 'room.hand.lower' : 'room.hand.raise'), pressed: hand }),
    act: (call) => call.raiseHand(),
  },
  {
    ...{ id: 'react', icon: 'smile', text: 'room.react.title', key: 'e', place: 'wide' },
    attributes: { 'aria-expanded': 'false' },
    act: ({ room }) => withPart(import('./reactions.js'), ({ choose }) => choose(room)),
  },
  {
    ...{ id: 'open-chat', icon: 'chat', text: 'room.chat.title', key: 'c', place: 'bar', opens: 'chat' },
    look: ({ chat: { unread } }) => ({ label: unread ? t('room.chat.unread', { count: unread }) : t('room.chat.title'), count: unread }),
  },
  {
    ...{ id: 'open-people', icon: 'people', text: 'room.people.label', key: 'p', place: 'wide', opens: 'people' },
    look: ({ room: { isHost, waiting } }) => waits(isHost ? waiting.length : 0),
  },
  { id: 'more', icon: 'more', text: 'room.more', place: 'bar', attributes: { 'aria-haspopup': 'menu', 'aria-expanded': 'false', 'aria-controls': 'more-menu' } },
  {
    ...{ id: 'leave', icon: 'leave', text: 'room.leave', place: 'bar' },
    attributes: { class: 'round leave', 'data-action': 'leave' },
    act: ({ room }) => void room.leave(),
  },
  {
    ...{ id: 'motion', icon: 'screen', text: 'room.screen.motion', place: 'menu' },
    visible: ({ isSharing }) => isSharing,
    look: ({ room }) => ({ pressed: room.screenContent === 'motion' }),
    act: ({ sharing }) => sharing?.changeContent(),
  },
  { id: 'flip', icon: 'flip', text: 'room.flip', place: 'menu', visible: ({ devices }) => devices.lists.video.length > 1, act: ({ devices }) => void devices.flip() },
  { id: 'invite', icon: 'invite', text: 'room.invite.open', place: 'menu', act: ({ invitation }) => invitation.open() },
  { id: 'file', icon: 'file', text: 'room.files.send', place: 'menu', act: ({ chat }) => chat.acts.onFiles() },
  {
    ...{ id: 'record', icon: 'record', text: 'room.record.start', place: 'menu' },
    visible: () => canRecord,
    look: ({ recording }) => ({ text: t(recording.isOn ? 'room.record.stop' : 'room.record.start') }),
    act: ({ recording }) => recording.toggle(),
  },
  {
    ...{ id: 'full', icon: 'full', text: 'room.full.enter', key: 'f', help: 'room.keys.full', place: 'menu' },
    visible: () => document.fullscreenEnabled,
    look: () => ({ text: t(document.fullscreenElement ? 'room.full.exit' : 'room.full.enter') }),
    act: () => bring(({ fillScreen }) => fillScreen()),
  },
  {
    ...{ id: 'view', icon: 'view', text: 'room.view.title', place: 'menu' },
    act: ({ seats }) => bring(({ chooseView }) => chooseView(seats)),
  },
  { id: 'next-view', text: 'room.keys.view', key: 'w', place: 'key', act: ({ seats }) => bring(({ nextView }) => nextView(seats)) },
  { id: 'next-page', text: 'room.pages.next', key: 'n', place: 'key', act: ({ seats }) => seats.pager?.turn(1) },
  { id: 'page-back', text: 'room.pages.back', key: 'b', place: 'key', act: ({ seats }) => seats.pager?.turn(-1) },
  {
    ...{ id: 'pip', icon: 'pip', text: 'room.pip.title', key: 'o', place: 'menu' },
    visible: () => 'documentPictureInPicture' in window || document.pictureInPictureEnabled,
    act: (call) => bring(({ togglePip }) => togglePip(call)),
  },
  {
    ...{ id: 'self', icon: 'eye', text: 'room.self.hide', key: 's', help: 'room.keys.self', place: 'menu' },
    look: ({ settings }) => ({ pressed: settings.options.hideSelf }),
    act: (call) => call.hideSelf(),
  },
  {
    ...{ id: 'audio-only', icon: 'speaker', text: 'room.data.audio', place: 'menu' },
    look: ({ room }) => ({ pressed: room.data === 'audio' }),
    act: (call) => setData(call),
  },
  { id: 'settings', icon: 'settings', text: 'room.settings.title', place: 'menu', act: ({ settings }) => settings.open() },
  { id: 'keys', icon: 'keys', text: 'room.keys.title', key: '?', help: 'room.keys.help', place: 'menu', visible: () => hasKeys(), act: showKeys },
];

const loadTuning = () => import('./tuning.js');

/** @param {Call} call @param {import('../encoder.js').Data} [data] by default with pictures or without, the other way @param {boolean} [hasCamera] afterwards, other than before */
const setData = (call, data, hasCamera) => withPart(loadTuning(), (tuning) => tuning.setData(call, data, hasCamera));

/** What is shown of the whole call: icon, text. @param {import('../room.js').Room} room @returns {string[][]} */
export function marksOf({ info, data }) {
  const locked = info.locked ? [['lock', t('room.mark.locked')]] : [];
  if (data === 'all') return locked;
  return [...locked, data === 'low' ? ['camera', t('room.data.low')] : ['speaker', t('room.data.audio')]];
}

/** @param {number} count of those in the lobby @returns {Partial<Look>} */
const waits = (count) => ({ label: count ? `${t('room.people.label')}, ${t('room.waiting.title', { count })}` : t('room.people.label'), count });

/** Phones can't. */
const canShare = Boolean(globalThis.navigator?.mediaDevices && 'getDisplayMedia' in navigator.mediaDevices);

/** A phone held in the hand has none. */
const hasKeys = () => matchMedia('(any-pointer: fine)').matches;

/** What the table makes. */
export class Controls {
  /** @param {Call} call */
  constructor(call) {
    this._call = call;
    /** In the bar. @type {Map<Control, HTMLButtonElement>} */
    this._buttons = new Map(CONTROLS.filter(({ place }) => place === 'bar' || place === 'wide').map((row) => [row, this._button(row)]));
    /** Beside those, what chooses their devices. @type {Map<Control, HTMLButtonElement>} */
    this._arrows = new Map();
    byId('controls').prepend(...[...this._buttons].map(([row, button]) => (row.choose ? this._split(row, button) : button)));
    wireMenu(byId('more'), byId('more-menu'), () => this._items());
    byId('more-menu').setAttribute('aria-labelledby', 'more');
    wireKeys(CONTROLS.flatMap((row) => this._shortcut(row)), () => call.isOn);
  }

  /** @param {Control} row */
  _button(row) {
    const { id, key, place, opens, attributes } = row;
    const panel = opens && { 'aria-expanded': 'false', 'aria-controls': opens };
    const look = place === 'wide' ? 'round wide' : 'round';
    const button = h('button', { id, type: 'button', class: look, 'aria-keyshortcuts': key?.toUpperCase(), ...panel, ...attributes });
    if (row.act || opens) button.addEventListener('click', () => this._do(row));
    return button;
  }

  /** @param {Control} row @param {HTMLButtonElement} button */
  _split(row, button) {
    const { id } = row;
    const arrow = h('button', { id: `${id}-devices`, type: 'button', class: 'round arrow', 'aria-haspopup': 'menu', 'aria-expanded': 'false', 'aria-controls': `${id}-menu` });
    const menu = h('div', { id: `${id}-menu`, class: 'menu', role: 'menu', 'aria-labelledby': arrow.id, hidden: true });
    // At the first time; from then on the menu's own do.
    arrow.addEventListener('click', () => arrow.dataset.wired ?? withPart(loadTuning(), ({ wireDevices }) => wireDevices(arrow, menu, this._call)));
    this._arrows.set(row, arrow);
    return h('div', { class: 'split' }, button, arrow, menu);
  }

  /** @param {Control} row */
  _do({ act, opens }) {
    if (opens) this._call.panels.toggle(opens);
    act?.(this._call);
  }

  /** @param {Control} row @returns {Look} */
  _look({ icon = '', text, look }) {
    const name = t(text);
    return { icon, label: name, text: name, ...look?.(this._call) };
  }

  /** @param {Control} row */
  _isVisible = ({ visible }) => visible?.(this._call) ?? true;

  render() {
    for (const [row, button] of this._buttons) {
      dress(button, this._look(row));
      button.hidden = !this._isVisible(row);
    }
    for (const [{ choose = '' }, arrow] of this._arrows) dress(arrow, { icon: 'up', label: t(choose) });
  }

  /** What has no button in the bar, or not in so narrow a one. */
  _items() {
    const inMenu = CONTROLS.filter((row) => row.place === 'menu' || (row.place === 'wide' && !this._buttons.get(row)?.offsetParent));
    return inMenu.filter(this._isVisible).map((row) => {
      const { icon, hint, text = '', pressed } = this._look(row);
      const checked = row.place === 'menu' ? pressed : undefined;
      return { key: row.opens ?? row.id, icon, text: hint ?? text, pressed: checked, act: () => this._do(row) };
    });
  }

  /** @param {Control} row @returns {import('./keys.js').Shortcut[]} */
  _shortcut(row) {
    const { key, text, help = text, held } = row;
    if (!key) return [];
    return [{ key, text: help, act: () => this._do(row), held: held && ((down) => held(this._call, down)) }];
  }
}
