/**
 * What is recorded, on this computer's disk as it comes: in files of the browser's own (File System,
 * "origin private"), so that a long call needs no memory and a page that is gone has lost nothing.
 */
import * as mp4 from './mp4.js';
import * as webm from './webm.js';

const ROOT = 'recordings';
const SAVED = 'saved'; // a file's name, by the others' numbers
const KEPT = 3_600_000; // ms: what was saved may still be on its way to where the reader wants it

export class Tape {
  /**
   * @param {string} name when it began (ms), a point, and the kind of film
   * @param {FileSystemDirectoryHandle} [folder] none: it is kept in memory
   */
  constructor(name, folder) {
    const [began, kind] = name.split('.');
    this.began = Number(began);
    this.kind = kind;
    this._name = name;
    this._folder = folder;
    /** @type {Blob[]} */
    this._pieces = [];
    /** @type {Promise<unknown>} */
    this._turn = Promise.resolve();
  }

  /** @param {string} kind `webm` or `mp4` */
  static async begin(kind) {
    const name = `${Date.now()}.${kind}`;
    hold(name);
    const folder = await root().then((all) => all.getDirectoryHandle(name, { create: true })).catch(() => undefined);
    return new Tape(name, folder);
  }

  /** One of before. @param {string} name @param {FileSystemDirectoryHandle} folder */
  static async found(name, folder) {
    const tape = new Tape(name, folder);
    tape._pieces = await filesOf(folder);
    return tape;
  }

  get isEmpty() {
    return !this._pieces.length;
  }

  /** When its last piece came. */
  get lastAt() {
    const last = this._pieces.at(-1);
    return last instanceof File ? last.lastModified : this.began;
  }

  /** @param {Blob} piece */
  add(piece) {
    this._turn = this._turn.then(async () => {
      const file = await this._write(String(this._pieces.length), piece).catch(() => undefined);
      this._pieces.push(file ?? piece); // without space on the disk in memory, as long as that lasts
    });
  }

  /** All of it. @param {number} [ms] its length */
  async film(ms = this.lastAt - this.began) {
    await this._turn;
    const { withDuration } = this.kind === 'mp4' ? mp4 : webm;
    const whole = new Blob(this._pieces, { type: `video/${this.kind}` });
    return withDuration(whole, ms).catch(() => whole);
  }

  /** It was given to the browser to be saved, and goes when that is done. */
  async saved() {
    await this._write(SAVED, new Blob()).catch(() => undefined);
  }

  async erase() {
    await root().then((all) => all.removeEntry(this._name, { recursive: true })).catch(() => undefined);
  }

  /** @param {string} name @param {Blob} content */
  async _write(name, content) {
    if (!this._folder) return undefined;
    const handle = await this._folder.getFileHandle(name, { create: true });
    const out = await handle.createWritable();
    await out.write(content);
    await out.close();
    return handle.getFile();
  }
}

/** Those that the end of their page cut short. Those that were saved are taken away in time. */
export async function leftTapes() {
  /** @type {Tape[]} */
  const left = [];
  const all = await root().catch(() => undefined);
  if (!all) return left;
  const { held = [] } = await navigator.locks.query();
  for await (const [name, folder] of all.entries()) {
    const isRunning = held.some((lock) => lock.name === lockOf(name)); // in another tab
    if (isRunning || !(folder instanceof FileSystemDirectoryHandle)) continue;
    const tape = await Tape.found(name, folder);
    const saved = await folder.getFileHandle(SAVED).then((handle) => handle.getFile()).catch(() => undefined);
    const isOver = saved ? Date.now() - saved.lastModified > KEPT : tape.isEmpty;
    if (isOver) await tape.erase();
    else if (!saved) left.push(tape);
  }
  return left;
}

const root = async () => (await navigator.storage.getDirectory()).getDirectoryHandle(ROOT, { create: true });

/** As long as the page lives, its tape is nobody else's. @param {string} name */
function hold(name) {
  void navigator.locks?.request(lockOf(name), () => new Promise(() => {}));
}

/** @param {string} name */
const lockOf = (name) => `rtapp.tape ${name}`;

/** Its pieces, in their order. @param {FileSystemDirectoryHandle} folder */
async function filesOf(folder) {
  const files = [];
  for await (const [name, handle] of folder.entries()) {
    if (name !== SAVED && handle instanceof FileSystemFileHandle) files.push(await handle.getFile());
  }
  return files.sort((one, other) => Number(one.name) - Number(other.name));
}
