/** The chat's panel: what was said, and where one writes. */
import { beginning, formatDate, onLanguage, t } from '../i18n.js';
import { announce, banner, byId, errorBanner, h, isComposing } from '../page.js';
import { icon, withPart, said } from './dom.js';
import { read, rich } from './markdown.js';
import { drawn, named, styled } from './parts.js';

/** @typedef {import('./chat.js').Chat} Chat */
/** @typedef {import('./chat.js').Said} Said */

const ANSWER = 'M10 5 4 11l6 6M4 11h10a6 6 0 0 1 6 6v2';
const QUOTED = 90; // characters of what is answered

await styled();

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
    /** What the next message answers. @type {Said | undefined} */
    this._answered = undefined;
    this._answering = h('div', { class: 'answering', hidden: true });
    /** A picture that goes with it. @type {{ file: File, alt: HTMLInputElement } | undefined} */
    this._pending = undefined;
    this._picture = h('div', { class: 'pending', hidden: true });
    /** @type {HTMLElement | undefined} */
    this._emoji = undefined;
    this._smile = h('button', { id: 'chat-emoji', type: 'button', class: 'small', 'aria-expanded': 'false', ...named({ 'aria-label': 'room.chat.emoji', title: 'room.chat.emoji' }) }, icon('smile'));
    const file = h('button', { id: 'send-file', type: 'button', class: 'small', 'aria-haspopup': 'dialog' }, icon('file'), said('span', 'room.files.send'));
    const send = h('button', { id: 'chat-send', class: 'small primary' }, icon('send'), said('span', 'room.chat.send'));
    const buttons = h('div', { class: 'row end' }, h('div', { class: 'row' }, this._smile, file), send);
    this._form = h('form', { id: 'chat-form', class: 'chat-form' }, this._error, this._answering, this._picture, this._text, buttons);
    file.addEventListener('click', () => chat.acts.onFiles());
    this._wire();
    byId('chat').append(this._box, this._form);
    for (const message of chat.said.values()) this.show(message);
    onLanguage(() => {
      for (const message of chat.said.values()) this.put(message.messageId, this._row(message));
      this._renderAnswering();
    });
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
      if (event.key === 'Escape' && this._answered && !isComposing(event)) {
        event.preventDefault(); // the panel stays
        this._answer(undefined);
      }
      // While a word is being composed (Japanese, an accent), Enter belongs to it.
      if (event.key !== 'Enter' || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      this._form.requestSubmit();
    });
    this._smile.addEventListener('click', () => this._chooseEmoji());
    this._text.addEventListener('paste', (event) => {
      const picture = pictureOf(event.clipboardData?.files);
      if (!picture) return;
      event.preventDefault();
      this._attach(picture);
    });
    this._list.addEventListener('keydown', (event) => this._move(event));
    const panel = byId('chat');
    panel.addEventListener('dragover', (event) => event.preventDefault());
    panel.addEventListener('drop', (event) => {
      event.preventDefault();
      const files = event.dataTransfer?.files;
      const picture = pictureOf(files);
      if (picture) this._attach(picture);
      else if (files?.length) this._chat.acts.onFiles(files);
    });
  }

  async _send() {
    const { _pending: pending, _answered: answered } = this;
    const text = this._text.value.trim();
    this._error.replaceChildren();
    if (pending) {
      const fault = await this._chat.acts.onPicture(pending.file, pending.alt.value.trim());
      if (fault) return this._error.replaceChildren(banner('error', t(fault)));
      this._detach();
    }
    if (!text) return;
    this._text.value = '';
    try {
      await this._chat.room.say(text, answered?.messageId);
      if (this._answered === answered) this._answer(undefined);
    } catch (error) {
      if (!this._text.value) this._text.value = text; // it isn't lost
      this._error.replaceChildren(errorBanner(error));
    }
  }

  // ---- what goes with a message --------------------------------------------------------------------

  /** @param {Said | undefined} message */
  _answer(message) {
    this._answered = message;
    this._renderAnswering();
    this._text.focus();
  }

  _renderAnswering() {
    const message = this._answered;
    this._answering.hidden = !message;
    if (!message) return this._answering.replaceChildren();
    const drop = h('button', { type: 'button', class: 'small quiet', ...named({ 'aria-label': 'room.chat.answerDrop', title: 'room.chat.answerDrop' }) }, icon('close'));
    drop.addEventListener('click', () => this._answer(undefined));
    this._answering.replaceChildren(h('p', {}, h('b', {}, t('room.chat.answering', { name: this._who(message) })), ' ', short(message.text)), drop);
  }

  /** @param {File} picture */
  _attach(picture) {
    withPart(import('./pictures.js'), async ({ shrunk }) => {
      this._error.replaceChildren();
      try {
        this._showPending(await shrunk(picture));
      } catch {
        this._error.replaceChildren(banner('error', t('room.picture.bad')));
      }
    });
  }

  /** @param {File} file */
  _showPending(file) {
    this._detach();
    const alt = h('input', { id: 'picture-alt', maxlength: '300', autocomplete: 'off' });
    const drop = h('button', { type: 'button', class: 'small quiet', ...named({ 'aria-label': 'room.picture.drop', title: 'room.picture.drop' }) }, icon('close'));
    drop.addEventListener('click', () => {
      this._detach();
      this._text.focus();
    });
    const image = h('img', { src: URL.createObjectURL(file), ...named({ alt: 'room.picture.title' }) });
    const field = h('div', { class: 'field' }, said('label', 'room.picture.alt', { for: 'picture-alt' }), alt, said('p', 'room.picture.hint', { class: 'hint' }));
    this._picture.replaceChildren(image, field, drop);
    this._picture.hidden = false;
    this._pending = { file, alt };
    alt.focus();
  }

  _detach() {
    const image = this._picture.querySelector('img');
    if (image) URL.revokeObjectURL(image.src);
    this._picture.replaceChildren();
    this._picture.hidden = true;
    this._pending = undefined;
  }

  _chooseEmoji() {
    const close = () => this._closeEmoji();
    const take = (/** @type {string} */ emoji) => {
      const { selectionStart: start, selectionEnd: end, value, maxLength } = this._text;
      if (value.length + emoji.length <= maxLength) this._text.setRangeText(emoji, start, end, 'end');
      close();
    };
    withPart(import('./emoji.js'), ({ makeEmoji }) => {
      if (!this._emoji) this._form.prepend((this._emoji = makeEmoji(this._smile, take, close)));
      if (!this._emoji.hidden) return close();
      this._emoji.hidden = false;
      this._smile.setAttribute('aria-expanded', 'true');
      /** @type {HTMLElement} */ (this._emoji.querySelector('[tabindex="0"]')).focus();
    });
  }

  _closeEmoji() {
    if (this._emoji) this._emoji.hidden = true;
    this._smile.setAttribute('aria-expanded', 'false');
    this._text.focus();
  }

  // ---- what was said -------------------------------------------------------------------------------

  /** @param {Said} message */
  show(message) {
    const { said } = this._chat;
    for (const key of this._rows.keys()) if (typeof key === 'number' && !said.has(key)) this._forget(key);
    if (!said.has(message.messageId)) return;
    // What was said before may come later than what is said now.
    const later = [...said.keys()].filter((number) => number > message.messageId && this._rows.has(number));
    this.put(message.messageId, this._row(message), this._rows.get(Math.min(...later)));
    // What answers it may be there already.
    for (const one of said.values()) if (one.replyTo === message.messageId && this._rows.has(one.messageId)) this.put(one.messageId, this._row(one));
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
    if (isAtEnd || (!before && row.classList.contains('own'))) this._scroll();
  }

  _scroll() {
    this._box.scrollTop = this._box.scrollHeight;
  }

  /** @param {Said} message */
  _who(message) {
    return this._chat.isOwn(message) ? t('room.chat.you') : this._chat.nameOf(message);
  }

  /** @param {Said} message */
  _row(message) {
    const { messageId, text, sentAt, replyTo } = message;
    const time = formatDate(sentAt, { hour: '2-digit', minute: '2-digit' });
    const label = t('room.chat.answer', { name: this._who(message) });
    const answer = h('button', { type: 'button', class: 'answer quiet', tabindex: '-1', 'aria-label': label, title: label }, drawn(ANSWER));
    answer.addEventListener('click', () => this._answer(message));
    const row = h(
      'li',
      { class: this._chat.isOwn(message) ? 'said own' : 'said', tabindex: '-1', 'data-message': String(messageId) },
      h('p', { class: 'meta' }, h('b', {}, h('bdi', {}, this._who(message))), h('time', { datetime: sentAt }, time), answer),
      replyTo ? this._quote(replyTo) : undefined,
      h('div', { class: 'text' }, ...rich(text)),
    );
    if (Math.max(...this._chat.said.keys()) === messageId) this._reachable(answer);
    return row;
  }

  /** One of them stands in the order of Tab, the others are reached from it by the arrows. @param {HTMLElement} answer */
  _reachable(answer) {
    for (const one of /** @type {NodeListOf<HTMLElement>} */ (this._list.querySelectorAll('.answer'))) one.tabIndex = -1;
    answer.tabIndex = 0;
  }

  /** @param {KeyboardEvent} event */
  _move(event) {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const all = /** @type {HTMLElement[]} */ ([...this._list.querySelectorAll('.answer')]);
    const at = all.findIndex((one) => one === event.target);
    const next = by && at >= 0 ? all[at + by] : undefined;
    if (!next) return;
    event.preventDefault();
    this._reachable(next);
    next.focus();
  }

  /** A line of what is answered, which leads to it. @param {number} number */
  _quote(number) {
    const message = this._chat.said.get(number);
    if (!message) return said('p', 'room.chat.answerGone', { class: 'quote' });
    const quote = h('button', { type: 'button', class: 'quote', title: t('room.chat.answerShow') }, h('b', {}, h('bdi', {}, this._who(message))), ' ', h('span', {}, short(message.text)));
    quote.addEventListener('click', () => {
      const row = this._rows.get(number);
      row?.scrollIntoView({ block: 'center' });
      row?.focus();
      announce(`${this._who(message)}: ${message.text}`);
    });
    return quote;
  }
}

/** In one line. @param {string} text */
function short(text) {
  const plain = read(text).replace(/\s+/g, ' ').trim();
  const part = beginning(plain, QUOTED);
  return part === plain ? plain : `${part}…`;
}

/** A picture that stands alone. @param {FileList | undefined} files */
const pictureOf = (files) => (files?.length === 1 && /^image\/(png|jpeg|webp|gif|bmp|avif)$/.test(files[0].type) ? files[0] : undefined);
