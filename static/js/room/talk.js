/** The chat's panel: what was said, and where one writes. */
import { formatDate, onLanguage, t } from '../i18n.js';
import { byId, errorBanner, h } from '../page.js';
import { icon, isComposing, said } from './dom.js';
import { named } from './parts.js';

/** @typedef {import('./chat.js').Chat} Chat */
/** @typedef {import('./chat.js').Said} Said */

const LINK = /\bhttps?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]]/g;

export class Talk {
  /** @param {Chat} chat */
  constructor(chat) {
    this._chat = chat;
    /** Of messages by their numbers, of files by their keys. @type {Map<number | string, HTMLElement>} */
    this._rows = new Map();
    this._empty = said('p', 'room.chat.empty', { id: 'chat-empty', class: 'empty' });
    this._list = h('ol', { id: 'messages', class: 'plain' });
    this._box = h('div', { class: 'chat-list', role: 'log', 'aria-live': 'off', tabindex: '0', 'aria-labelledby': 'chat-title' }, this._empty, this._list);
    this._text = h('textarea', { id: 'chat-text', rows: '2', maxlength: '2000', ...named({ 'aria-label': 'room.chat.label', placeholder: 'room.chat.placeholder' }) });
    this._error = h('div', { class: 'form-error' });
    const file = h('button', { id: 'send-file', type: 'button', class: 'small', 'aria-haspopup': 'dialog' }, icon('file'), said('span', 'room.files.send'));
    const send = h('button', { id: 'chat-send', class: 'small primary' }, icon('send'), said('span', 'room.chat.send'));
    this._form = h('form', { id: 'chat-form', class: 'chat-form' }, this._error, this._text, h('div', { class: 'row end' }, file, send));
    file.addEventListener('click', () => chat.acts.onFiles());
    this._wire();
    byId('chat').append(this._box, this._form);
    for (const message of chat.said.values()) this.show(message);
    onLanguage(() => [...chat.said.values()].forEach((message) => this.put(message.messageId, this._row(message))));
  }

  /** It is looked at now. */
  open() {
    this._scroll();
    if (document.activeElement === byId('chat-title')) this._text.focus();
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
    const panel = byId('chat');
    panel.addEventListener('dragover', (event) => event.preventDefault());
    panel.addEventListener('drop', (event) => {
      event.preventDefault();
      if (event.dataTransfer?.files.length) this._chat.acts.onFiles(event.dataTransfer.files);
    });
  }

  async _send() {
    const text = this._text.value.trim();
    this._error.replaceChildren();
    if (!text) return;
    this._text.value = '';
    try {
      await this._chat.room.say(text);
    } catch (error) {
      if (!this._text.value) this._text.value = text; // it isn't lost
      this._error.replaceChildren(errorBanner(error));
    }
  }

  /** @param {Said} message */
  show(message) {
    const { said } = this._chat;
    for (const key of this._rows.keys()) if (typeof key === 'number' && !said.has(key)) this._forget(key);
    if (!said.has(message.messageId)) return;
    // What was said before may come later than what is said now.
    const later = [...said.keys()].filter((number) => number > message.messageId && this._rows.has(number));
    this.put(message.messageId, this._row(message), this._rows.get(Math.min(...later)));
  }

  /** @param {number} key */
  _forget(key) {
    this._rows.get(key)?.remove();
    this._rows.delete(key);
  }

  /** What is shown of a message, or of a file. @param {number | string} key */
  row(key) {
    return this._rows.get(key);
  }

  /** @param {number | string} key @param {HTMLElement} row @param {HTMLElement} [before] */
  put(key, row, before) {
    const old = this._rows.get(key);
    this._rows.set(key, row);
    this._empty.hidden = true;
    if (old) return old.replaceWith(row);
    const { scrollHeight, scrollTop, clientHeight } = this._box;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < 80;
    this._list.insertBefore(row, before ?? null);
    if (isAtEnd) this._scroll();
  }

  _scroll() {
    this._box.scrollTop = this._box.scrollHeight;
  }

  /** @param {Said} message */
  _row(message) {
    const { text, sentAt } = message;
    const isOwn = this._chat.isOwn(message);
    const time = formatDate(sentAt, { hour: '2-digit', minute: '2-digit' });
    return h(
      'li',
      { class: isOwn ? 'said own' : 'said' },
      h('p', { class: 'meta' }, h('b', {}, isOwn ? t('room.chat.you') : h('bdi', {}, this._chat.nameOf(message))), h('time', { datetime: sentAt }, time)),
      h('p', { class: 'text' }, ...linked(text)),
    );
  }
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
