/** Files on their way, as rows of the chat; fetched by the first that goes or comes. */
import { formatNumber, onLanguage, t } from '../i18n.js';
import { announce, byId, h } from '../page.js';
import { fieldError } from '../forms.js';
import { openDialog, said, size } from './dom.js';
import { Files, LARGEST } from './files.js';
import { summed } from './groups.js';
import { nameOf } from './names.js';
import { makeDialog } from './parts.js';
import { checked, enlarge } from './pictures.js';

/** @typedef {import('./chat.js').Chat} Chat */
/** @typedef {import('./talk.js').Talk} Talk */
/** @typedef {import('./files.js').Transfer} Transfer */

/** A transfer's state in words. @type {Record<Transfer['status'], string>} */
const STATES = {
  offered: 'room.files.offered',
  moving: 'room.files.moving',
  done: 'room.files.done',
  declined: 'room.files.declined',
  cancelled: 'room.files.cancelled',
  failed: 'room.files.failed',
};

export class Transfers {
  /** @param {Chat} chat @param {Talk} panel */
  constructor(chat, panel) {
    this._room = chat.room;
    this._chat = chat;
    this._panel = panel;
    /** @type {HTMLDialogElement | undefined} */
    this._dialog = undefined;
    /** Of pictures. @type {WeakMap<Blob, string>} */
    this._urls = new WeakMap();
    this.files = new Files(chat.room);
    this.files.addEventListener('change', (event) => this._transfer(/** @type {CustomEvent} */ (event).detail.transfer));
    onLanguage(() => [...this.files.transfers.values()].forEach((transfer) => this._transfer(transfer, false)));
  }

  /** Which files, and to whom. @param {FileList} [dropped] */
  choose(dropped) {
    this._dialog ??= this._makeDialog();
    const people = this._room.participants.filter((one) => !one.isSelf);
    const options = people.map((one) => h('option', { value: one.clientId }, nameOf(one)));
    byId('file-to').replaceChildren(said('option', 'room.files.everyone', { value: '' }), ...options);
    const input = /** @type {HTMLInputElement} */ (byId('file-input'));
    fieldError(input, undefined);
    input.value = '';
    if (dropped) input.files = dropped;
    openDialog(this._dialog);
  }

  _makeDialog() {
    const input = h('input', { id: 'file-input', type: 'file', multiple: true, 'aria-describedby': 'file-input-error file-hint' });
    const error = h('p', { id: 'file-input-error', class: 'field-error' });
    const hint = said('p', 'room.files.hint', { id: 'file-hint', class: 'hint' });
    const which = h('div', { class: 'field' }, said('label', 'room.files.which', { for: 'file-input' }), input, error, hint);
    const to = h('div', { class: 'field' }, said('label', 'room.files.to', { for: 'file-to' }), h('select', { id: 'file-to' }));
    const dialog = makeDialog('file', 'room.files.title', [which, to], 'room.files.offer');
    dialog.addEventListener('submit', (event) => {
      event.preventDefault();
      this._offer();
    });
    return dialog;
  }

  /** What the dialog has. */
  _offer() {
    const input = /** @type {HTMLInputElement} */ (byId('file-input'));
    const to = /** @type {HTMLSelectElement} */ (byId('file-to')).value;
    const files = [...(input.files ?? [])];
    const people = this._room.participants.filter(
      (one) => !one.isSelf && (!to || one.clientId === to) && this._room.canSend(one),
    );
    const fault = faultOf(files, people.length);
    fieldError(input, fault ? () => t(fault) : undefined);
    if (fault) return input.focus();
    for (const file of files) this.files.offer(file, people);
    this._dialog?.close();
  }

  /** A picture, to all who are connected. @param {File} file @param {string} alt @returns {string | undefined} the key of what is wrong */
  show(file, alt) {
    const people = this._room.participants.filter((one) => !one.isSelf && this._room.canSend(one));
    if (!people.length) return 'room.files.nobody';
    this.files.offer(file, people, { alt });
    return undefined;
  }

  /** All that was offered at once. @param {Transfer} transfer */
  _groupOf({ group, incoming, key }) {
    if (incoming) return [];
    return [...this.files.transfers.values()].filter((one) => !one.incoming && (one.group === group || one.key === key));
  }

  /** @param {Transfer} transfer @param {boolean} [isNews] */
  _transfer(transfer, isNews = true) {
    const group = this._groupOf(transfer);
    const isMany = group.length > 1;
    const key = isMany ? `out:${transfer.group}` : transfer.key;
    const old = this._panel.row(key);
    const look = isMany ? group.map(({ status }) => status).join() : transfer.status;
    // While it moves only the bar does: a button that is replaced would lose the focus.
    if (old?.dataset.look === look && isNews) return this._progress(old, transfer, group);
    const row = isMany ? this._groupRow(key, group) : this._transferRow(transfer);
    row.dataset.look = look;
    this._progress(row, transfer, group);
    this._replace(key, row, old);
    if (!isNews || transfer.status === 'moving') return;
    const { name, person, incoming, picture } = transfer;
    const { took, count } = summed(group);
    if (incoming && picture) {
      if (transfer.status === 'done') this._chat.news(nameOf(person), t('room.picture.news'));
    } else if (incoming && transfer.status === 'offered') this._chat.news(nameOf(person), t('room.files.news', { name }));
    else if (transfer.status !== 'offered') announce(`${name}: ${isMany ? t('room.files.took', { took, count }) : t(STATES[transfer.status])}`);
  }

  /** The focus, and what was opened, stay. @param {string} key @param {HTMLElement} row @param {HTMLElement} [old] */
  _replace(key, row, old) {
    const focused = old?.contains(document.activeElement) ? document.activeElement?.tagName : '';
    const [was, is] = [old, row].map((one) => one?.querySelector('details'));
    if (was && is) is.open = was.open;
    this._panel.put(key, row);
    if (focused) /** @type {HTMLElement | null} */ (row.querySelector(focused.toLowerCase()) ?? row.querySelector('button, a, summary'))?.focus();
  }

  /** @param {Transfer} transfer */
  _transferRow(transfer) {
    const { incoming, person, status, picture } = transfer;
    const who = t(incoming ? 'room.files.from' : 'room.files.toWhom', { name: nameOf(person) });
    // Whoever is asked for an answer doesn't wait for one.
    const state = incoming && (status === 'offered' || (picture && status === 'done')) ? '' : t(STATES[status]);
    return this._row(transfer, transfer.key, who, status, state, this._buttons(transfer));
  }

  /** One for all to whom it was offered. @param {string} key @param {Transfer[]} group */
  _groupRow(key, group) {
    const { status, count, took } = summed(group);
    const open = group.filter((one) => one.status === 'offered' || one.status === 'moving');
    const buttons = open.length ? [act('room.cancel', 'small', () => open.forEach((one) => this.files.cancel(one)))] : [];
    const row = this._row(group[0], key, t('room.files.toMany', { count }), status, t('room.files.took', { took, count }), buttons);
    const lines = group.map((one) => h('li', { 'data-person': one.status }, h('bdi', {}, nameOf(one.person)), ` – ${t(STATES[one.status])}`));
    row.append(h('details', {}, said('summary', 'room.files.details'), h('ul', { class: 'plain hint' }, ...lines)));
    return row;
  }

  /** @param {Transfer} transfer @param {string} key @param {string} who @param {Transfer['status']} status @param {string} state @param {Node[]} buttons */
  _row(transfer, key, who, status, state, buttons) {
    const { incoming, name, size: bytes, picture } = transfer;
    const what = picture ? this._picture(transfer) : h('p', { class: 'text' }, `${name} (${size(bytes)})`);
    return h(
      'li',
      { class: incoming ? 'said file' : 'said file own', 'data-status': status, 'data-transfer': key },
      h('p', { class: 'meta' }, h('b', {}, who)),
      what,
      h('p', { class: 'hint state' }, state),
      status === 'moving' ? h('progress', { max: '1', value: '0', 'aria-label': name }) : undefined,
      h('div', { class: 'row' }, ...buttons),
    );
  }

  /** Shown once it is there, and as far as it may be. @param {Transfer} transfer */
  _picture({ incoming, person, picture, size: bytes, name }) {
    const place = h('div', { class: 'picture' });
    const blob = picture?.blob;
    const alt = picture?.alt || t('room.picture.from', { name: incoming ? nameOf(person) : t('room.chat.you') });
    const show = (/** @type {string} */ url) => {
      const button = h('button', { type: 'button', class: 'picture-small', title: t('room.picture.open') }, h('img', { src: url, alt }));
      button.addEventListener('click', () => enlarge(url, alt));
      place.replaceChildren(button);
    };
    const known = blob && this._urls.get(blob);
    if (known) show(known);
    else if (blob) {
      void checked(blob).then((fine) => {
        if (!fine) return place.replaceChildren(`${name} (${size(bytes)})`);
        const url = URL.createObjectURL(fine);
        this._urls.set(blob, url);
        show(url);
      });
    }
    return place;
  }

  /** @param {HTMLElement} row @param {Transfer} transfer @param {Transfer[]} group */
  _progress(row, transfer, group) {
    const { share, took, count } = summed(group.length > 1 ? group : [transfer]);
    const bar = row.querySelector('progress');
    if (!bar) return;
    bar.value = share;
    const moved = t('room.files.percent', { percent: formatNumber(share, { style: 'percent' }) });
    /** @type {HTMLElement} */ (row.querySelector('.state')).textContent = count > 1 ? `${t('room.files.took', { took, count })} · ${moved}` : moved;
  }

  /** @param {Transfer} transfer */
  _buttons(transfer) {
    const { incoming, status, url, name, picture } = transfer;
    if (url) return [said('a', 'room.files.save', { class: picture ? 'button small' : 'button small primary', href: url, download: name })];
    if (incoming && status === 'offered') {
      return [
        act('room.files.accept', 'small primary', () => this.files.accept(transfer)),
        act('room.files.decline', 'small', () => this.files.decline(transfer)),
      ];
    }
    const isOpen = status === 'offered' || status === 'moving';
    return isOpen ? [act('room.cancel', 'small', () => this.files.cancel(transfer))] : [];
  }
}

/** @param {string} key @param {string} look @param {() => void} run */
function act(key, look, run) {
  const button = said('button', key, { type: 'button', class: look, 'data-act': key });
  button.addEventListener('click', run);
  return button;
}

/** @param {File[]} files @param {number} people @returns {string | undefined} the key of what is wrong */
function faultOf(files, people) {
  if (!files.length) return 'room.files.none';
  if (!people) return 'room.files.nobody';
  return files.some((file) => file.size > LARGEST) ? 'room.files.tooLarge' : undefined;
}

