/** The chat: what was said, how much of it is unread; and the choice of files to send. */
import { formatDate, onLanguage, t } from '../i18n.js';
import { byId, errorBanner, h } from '../page.js';
import { isComposing, openDialog, said } from './dom.js';
import { fieldError } from '../forms.js';
import { nameOf } from './names.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {{ messageId: number, clientId: string, displayName: string, text: string, sentAt: string }} Said */

const LINK = /\bhttps?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]]/g;
const MOST = 500; // messages kept in the page

export class Chat {
  /**
   * @param {Room} room
   * @param {{ isSeen: () => boolean, onNews: (from: string, text: string) => void, onUnread: () => void, onFiles: () => void }} acts
   */
  constructor(room, acts) {
    this._room = room;
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
      if (event.key !== 'Enter' || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      this._form.requestSubmit();
    });
    byId('send-file').addEventListener('click', () => this.chooseFiles());
    byId('file-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this._acts.onFiles();
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
    this.news(this._nameOf(message), message.text);
  }

  /** Said while the way to the server was lost: counted each, announced once. @param {Said[]} messages */
  _missed(messages) {
    const news = messages.filter((one) => this._add(one) && one.clientId !== this._room.self?.clientId);
    const last = news.pop();
    if (!this._acts.isSeen()) this.unread += news.length;
    if (last) this.news(this._nameOf(last), last.text);
  }

  /** Who said it: as they are shown as long as they are there. @param {Said} message */
  _nameOf(message) {
    return nameOf(this._room.participants.find(({ clientId, isSelf }) => clientId === message.clientId && !isSelf) ?? message);
  }

  /** Something new, unread as long as the chat isn't looked at. @param {string} from @param {string} text */
  news(from, text) {
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
    this.put(key, this._row(message), later && this._rows.get(keyOf(later)));
    return true;
  }

  _forget() {
    const [oldest] = this._said.keys();
    this._said.delete(oldest);
    this._rows.get(oldest)?.remove();
    this._rows.delete(oldest);
  }

  /** What is shown of a message, or of a file. @param {string} key */
  row(key) {
    return this._rows.get(key);
  }

  /** @param {string} key @param {HTMLElement} row @param {HTMLElement} [before] */
  put(key, row, before) {
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
  _row(message) {
    const { clientId, text, sentAt } = message;
    const isOwn = clientId === this._room.self?.clientId;
    const time = formatDate(sentAt, { hour: '2-digit', minute: '2-digit' });
    return h(
      'li',
      { class: isOwn ? 'said own' : 'said' },
      h('p', { class: 'meta' }, h('b', {}, isOwn ? t('room.chat.you') : h('bdi', {}, this._nameOf(message))), h('time', { datetime: sentAt }, time)),
      h('p', { class: 'text' }, ...linked(text)),
    );
  }

  _renderAll() {
    for (const [key, message] of this._said) this.put(key, this._row(message));
  }

  // Files

  /** @param {FileList} [dropped] */
  chooseFiles(dropped) {
    const people = this._room.participants.filter((one) => !one.isSelf);
    const options = people.map((one) => h('option', { value: one.clientId }, nameOf(one)));
    byId('file-to').replaceChildren(said('option', 'room.files.everyone', { value: '' }), ...options);
    const input = /** @type {HTMLInputElement} */ (byId('file-input'));
    fieldError(input, undefined);
    input.value = '';
    if (dropped) input.files = dropped;
    openDialog(/** @type {HTMLDialogElement} */ (byId('file-dialog')));
  }

}

/** The same in the history as when it was heard. @param {Said} message */
const keyOf = ({ messageId }) => String(messageId);

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
