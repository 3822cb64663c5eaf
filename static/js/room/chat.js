/** The chat: what was said, files on their way, how much of it is unread. */
import { formatDate, formatNumber, onLanguage, t } from '../i18n.js';
import { announce, byId, errorBanner, h } from '../page.js';
import { openDialog, said, size } from './dom.js';
import { fieldError } from '../forms.js';
import { LARGEST } from './files.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('./files.js').Files} Files */
/** @typedef {import('./files.js').Transfer} Transfer */
/** @typedef {{ messageId: number, clientId: string, displayName: string, text: string, sentAt: string }} Said */

const LINK = /\bhttps?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]]/g;
const MOST = 500; // messages kept in the page

/** A transfer's state in words. @type {Record<Transfer['status'], string>} */
const STATES = {
  offered: 'room.files.offered',
  moving: 'room.files.moving',
  done: 'room.files.done',
  declined: 'room.files.declined',
  cancelled: 'room.files.cancelled',
  failed: 'room.files.failed',
};

export class Chat {
  /**
   * @param {Room} room
   * @param {Files} files
   * @param {{ isSeen: () => boolean, onNews: (from: string, text: string) => void, onUnread: () => void }} acts
   */
  constructor(room, files, acts) {
    this._room = room;
    this._files = files;
    this._acts = acts;
    this.unread = 0;
    /** @type {Map<string, Said>} */
    this._said = new Map();
    /** @type {Map<string, HTMLElement>} */
    this._rows = new Map();
    this._form = /** @type {HTMLFormElement} */ (byId('chat-form'));
    this._text = /** @type {HTMLTextAreaElement} */ (byId('chat-text'));
    room.on('chat', (message) => this._hear(message));
    room.on('missed', (messages) => this._missed(messages));
    files.addEventListener('change', (event) => this._transfer(/** @type {CustomEvent} */ (event).detail.transfer));
    this._wire();
    onLanguage(() => this._renderAll());
  }

  /** What was said before one came. */
  async catchUp() {
    for (const message of await this._room.history().catch(() => [])) this._add(message);
  }

  /** It is looked at now. */
  seen() {
    this.unread = 0;
    this._acts.onUnread();
    this._scroll();
  }

  _wire() {
    this._form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this._send();
    });
    this._text.addEventListener('keydown', (event) => {
      // While a word is being composed (Japanese, an accent), Enter belongs to it.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this._form.requestSubmit();
    });
    byId('send-file').addEventListener('click', () => this.chooseFiles());
    byId('file-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this._offer();
    });
    const panel = byId('chat');
    panel.addEventListener('dragover', (event) => event.preventDefault());
    panel.addEventListener('drop', (event) => {
      event.preventDefault();
      if (event.dataTransfer?.files.length) this.chooseFiles(event.dataTransfer.files);
    });
  }

  async _send() {
    const text = this._text.value.trim();
    const place = /** @type {HTMLElement} */ (this._form.querySelector('.form-error'));
    place.replaceChildren();
    if (!text) return;
    this._text.value = '';
    try {
      await this._room.say(text);
    } catch (error) {
      if (!this._text.value) this._text.value = text; // it isn't lost
      place.replaceChildren(errorBanner(error));
    }
  }

  /** @param {Said} message */
  _hear(message) {
    if (!this._add(message)) return;
    if (message.clientId === this._room.self?.clientId) return;
    this._news(message.displayName, message.text);
  }

  /** Said while the way to the server was lost: counted each, announced once. @param {Said[]} messages */
  _missed(messages) {
    const news = messages.filter((one) => this._add(one) && one.clientId !== this._room.self?.clientId);
    const last = news.pop();
    if (!this._acts.isSeen()) this.unread += news.length;
    if (last) this._news(last.displayName, last.text);
  }

  /** @param {string} from @param {string} text */
  _news(from, text) {
    if (!this._acts.isSeen()) this.unread += 1;
    this._acts.onUnread();
    this._acts.onNews(from, text);
  }

  /** @param {Said} message @returns {boolean} whether it is new */
  _add(message) {
    const key = keyOf(message);
    if (this._said.has(key)) return false;
    // What was said before may come later than what is said now.
    const later = [...this._said.values()].find(({ messageId }) => messageId > message.messageId);
    this._said.set(key, message);
    if (this._said.size > MOST) this._forget();
    this._put(key, this._row(message), later && this._rows.get(keyOf(later)));
    return true;
  }

  _forget() {
    const [oldest] = this._said.keys();
    this._said.delete(oldest);
    this._rows.get(oldest)?.remove();
    this._rows.delete(oldest);
  }

  /** @param {string} key @param {HTMLElement} row @param {HTMLElement} [before] */
  _put(key, row, before) {
    const list = byId('messages');
    const old = this._rows.get(key);
    this._rows.set(key, row);
    byId('chat-empty').hidden = true;
    if (old) return old.replaceWith(row);
    const box = /** @type {HTMLElement} */ (list.parentElement);
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 80;
    list.insertBefore(row, before ?? null);
    if (isAtEnd) this._scroll();
  }

  _scroll() {
    const box = /** @type {HTMLElement} */ (byId('messages').parentElement);
    box.scrollTop = box.scrollHeight;
  }

  /** @param {Said} message */
  _row({ clientId, displayName, text, sentAt }) {
    const isOwn = clientId === this._room.self?.clientId;
    const time = formatDate(sentAt, { hour: '2-digit', minute: '2-digit' });
    return h(
      'li',
      { class: isOwn ? 'said own' : 'said' },
      h('p', { class: 'meta' }, h('b', {}, isOwn ? t('room.chat.you') : h('bdi', {}, displayName)), h('time', { datetime: sentAt }, time)),
      h('p', { class: 'text' }, ...linked(text)),
    );
  }

  _renderAll() {
    for (const [key, message] of this._said) this._put(key, this._row(message));
    for (const transfer of this._files.transfers.values()) this._transfer(transfer, false);
  }

  // Files

  /** @param {FileList} [dropped] */
  chooseFiles(dropped) {
    const people = this._room.participants.filter((one) => !one.isSelf);
    const options = people.map((one) => h('option', { value: one.clientId }, one.displayName));
    byId('file-to').replaceChildren(said('option', 'room.files.everyone', { value: '' }), ...options);
    const input = /** @type {HTMLInputElement} */ (byId('file-input'));
    fieldError(input, undefined);
    input.value = '';
    if (dropped) input.files = dropped;
    openDialog(/** @type {HTMLDialogElement} */ (byId('file-dialog')));
  }

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
    for (const file of files) this._files.offer(file, people);
    /** @type {HTMLDialogElement} */ (byId('file-dialog')).close();
  }

  /** @param {Transfer} transfer @param {boolean} [isNews] */
  _transfer(transfer, isNews = true) {
    const old = this._rows.get(transfer.key);
    // While it moves only the bar does: a button that is replaced would lose the focus.
    if (old?.dataset.status === transfer.status && transfer.status === 'moving' && isNews) return progress(old, transfer);
    const hadFocus = old?.contains(document.activeElement);
    const row = this._transferRow(transfer);
    this._put(transfer.key, row);
    if (hadFocus) /** @type {HTMLElement | null} */ (row.querySelector('button, a'))?.focus();
    if (!isNews || transfer.status === 'moving') return;
    const { name, person, incoming } = transfer;
    if (incoming && transfer.status === 'offered') this._news(person.displayName, t('room.files.news', { name }));
    else if (transfer.status !== 'offered') announce(`${name}: ${t(STATES[transfer.status])}`);
  }

  /** @param {Transfer} transfer */
  _transferRow(transfer) {
    const { incoming, person, name, status } = transfer;
    const who = t(incoming ? 'room.files.from' : 'room.files.toWhom', { name: person.displayName });
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
        act('room.files.accept', 'small primary', () => this._files.accept(transfer)),
        act('room.files.decline', 'small', () => this._files.decline(transfer)),
      ];
    }
    const isOpen = status === 'offered' || status === 'moving';
    return isOpen ? [act('room.cancel', 'small', () => this._files.cancel(transfer))] : [];
  }
}

/** The same in the history as when it was heard. @param {Said} message */
const keyOf = ({ messageId }) => String(messageId);

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

/** A text with its addresses as links. @param {string} text */
function linked(text) {
  const parts = [];
  let at = 0;
  for (const { 0: address, index } of text.matchAll(LINK)) {
    parts.push(text.slice(at, index));
    parts.push(h('a', { href: address, target: '_blank', rel: 'noopener noreferrer nofollow' }, address));
    at = index + address.length;
  }
  return [...parts, text.slice(at)];
}
