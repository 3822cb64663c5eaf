/** The chat: what was said, and how much of it is unread. Its panel is in `talk.js`. */
import { withPart } from './dom.js';
import { nameOf } from './names.js';

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('./talk.js').Talk} Talk */
/** @typedef {{ messageId: number, clientId: string, displayName: string, text: string, sentAt: string, replyTo?: number | null }} Said */

const MOST = 500; // messages kept in the page

export class Chat {
  /**
   * @param {Room} room
   * @param {{ isSeen: () => boolean, onNews: (from: string, text: string) => void, onUnread: () => void, onFiles: (files?: FileList) => void, onPicture: (file: File, alt: string) => Promise<string | void> }} acts
   */
  constructor(room, acts) {
    this.room = room;
    this.acts = acts;
    this.unread = 0;
    /** By their numbers. @type {Map<number, Said>} */
    this.said = new Map();
    /** @type {Promise<Talk> | undefined} */
    this._panel = undefined;
    room.on('chat', (message) => this._hear(message));
    room.on('missed', (messages) => this._missed(messages));
  }

  /** What was said before one came. */
  async catchUp() {
    for (const message of await this.room.history().catch(() => [])) this._add(message);
  }

  /** What shows it, loaded by the first that needs it. */
  panel() {
    this._panel ??= import('./talk.js').then(
      ({ Talk }) => new Talk(this),
      (error) => {
        this._panel = undefined; // so that another try asks again
        throw error;
      },
    );
    return this._panel;
  }

  open() {
    this.seen();
    withPart(this.panel(), (panel) => panel.open());
  }

  /** It is looked at now. */
  seen() {
    this.unread = 0;
    this.acts.onUnread();
  }

  /** @param {Said} message */
  _hear(message) {
    if (!this._add(message) || this.isOwn(message)) return;
    this.news(this.nameOf(message), message.text);
  }

  /** Said while the way to the server was lost: counted each, announced once. @param {Said[]} messages */
  _missed(messages) {
    const news = messages.filter((one) => this._add(one) && !this.isOwn(one));
    const last = news.pop();
    if (!this.acts.isSeen()) this.unread += news.length;
    if (last) this.news(this.nameOf(last), last.text);
  }

  /** @param {Said} message */
  isOwn({ clientId }) {
    return clientId === this.room.self?.clientId;
  }

  /** Who said it: as they are shown as long as they are there. @param {Said} message */
  nameOf(message) {
    return nameOf(this.room.participants.find(({ clientId, isSelf }) => clientId === message.clientId && !isSelf) ?? message);
  }

  /** Something new, unread as long as the chat isn't looked at. @param {string} from @param {string} text */
  news(from, text) {
    if (!this.acts.isSeen()) this.unread += 1;
    this.acts.onUnread();
    this.acts.onNews(from, text);
  }

  /** The same comes in the history as was heard. @param {Said} message @returns {boolean} whether it is new */
  _add(message) {
    const { said } = this;
    if (said.has(message.messageId)) return false;
    said.set(message.messageId, message);
    const [oldest] = said.keys();
    if (said.size > MOST) said.delete(oldest);
    void this.panel().then((panel) => panel.show(message), () => {}); // shown when it can be loaded
    return true;
  }
}
