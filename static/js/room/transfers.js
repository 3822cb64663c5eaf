/** Files on their way, as rows of the chat; fetched by the first that goes or comes. */
import { formatNumber, onLanguage, t } from '../i18n.js';
import { announce, byId, h } from '../page.js';
import { fieldError } from '../forms.js';
import { openDialog, said, size } from './dom.js';
import { Files, LARGEST } from './files.js';
import { nameOf } from './names.js';
import { makeDialog } from './parts.js';

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

  /** @param {Transfer} transfer @param {boolean} [isNews] */
  _transfer(transfer, isNews = true) {
    const old = this._panel.row(transfer.key);
    // While it moves only the bar does: a button that is replaced would lose the focus.
    if (old?.dataset.status === transfer.status && transfer.status === 'moving' && isNews) return progress(old, transfer);
    const hadFocus = old?.contains(document.activeElement);
    const row = this._transferRow(transfer);
    this._panel.put(transfer.key, row);
    if (hadFocus) /** @type {HTMLElement | null} */ (row.querySelector('button, a'))?.focus();
    if (!isNews || transfer.status === 'moving') return;
    const { name, person, incoming } = transfer;
    if (incoming && transfer.status === 'offered') this._chat.news(nameOf(person), t('room.files.news', { name }));
    else if (transfer.status !== 'offered') announce(`${name}: ${t(STATES[transfer.status])}`);
  }

  /** @param {Transfer} transfer */
  _transferRow(transfer) {
    const { incoming, person, name, status } = transfer;
    const who = t(incoming ? 'room.files.from' : 'room.files.toWhom', { name: nameOf(person) });
    const row = h(
      'li',
      { class: incoming ? 'said file' : 'said file own', 'data-status': status, 'data-transfer': transfer.key },
      h('p', { class: 'meta' }, h('b', {}, who)),
      h('p', { class: 'text' }, `${name} (${size(transfer.size, formatNumber)})`),
      // Whoever is asked for an answer doesn't wait for one.
      h('p', { class: 'hint state' }, incoming && status === 'offered' ? '' : t(STATES[status])),
      status === 'moving' ? h('progress', { max: '1', value: '0', 'aria-label': name }) : undefined,
      h('div', { class: 'row' }, ...this._buttons(transfer)),
    );
    progress(row, transfer);
    return row;
  }

  /** @param {Transfer} transfer */
  _buttons(transfer) {
    const { incoming, status, url, name } = transfer;
    if (url) return [said('a', 'room.files.save', { class: 'button small primary', href: url, download: name })];
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

/** @param {HTMLElement} row @param {Transfer} transfer */
function progress(row, { done, size: whole }) {
  const bar = row.querySelector('progress');
  if (!bar) return;
  bar.value = whole ? done / whole : 1;
  const percent = formatNumber(bar.value, { style: 'percent' });
  /** @type {HTMLElement} */ (row.querySelector('.state')).textContent = t('room.files.percent', { percent });
}

/** @param {File[]} files @param {number} people @returns {string | undefined} the key of what is wrong */
function faultOf(files, people) {
  if (!files.length) return 'room.files.none';
  if (!people) return 'room.files.nobody';
  return files.some((file) => file.size > LARGEST) ? 'room.files.tooLarge' : undefined;
}

