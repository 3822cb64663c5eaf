/**
 * Files from one person to another over their data channel, which no server sees. Knows no DOM.
 *
 * Control is JSON text, `{type: 'file-offer', id, name, size, picture?}`, then `file-accept` or `file-decline`,
 * pieces of 16 KiB (4 bytes with the offer's id, then content), `file-received`; either side may
 * `file-cancel` (`by` whom). Nothing is sent before it is accepted; a small `picture` (`{alt}`) is by
 * itself, as far as that goes.
 *
 * Event `change` ({transfer}) after each step.
 */

/** @typedef {import('../room.js').Room} Room */
/** @typedef {import('../room.js').Participant} Participant */
/**
 * @typedef {object} Transfer
 * @property {number} id of the sender
 * @property {string} key
 * @property {string} group what was offered at once to several
 * @property {boolean} incoming
 * @property {Participant} person the other
 * @property {string} name
 * @property {number} size bytes
 * @property {number} done bytes
 * @property {'offered' | 'moving' | 'done' | 'declined' | 'cancelled' | 'failed'} status
 * @property {File} [file]
 * @property {BlobPart[]} [pieces]
 * @property {string} [url] of what was received
 * @property {{ alt: string, blob?: Blob }} [picture] shown in the chat
 */

/** The bytes of a message: what every browser takes. */
export const PIECE = 16 * 1024;
const HEAD = 4;
const READ = 64 * (PIECE - HEAD); // bytes read from the file at once
const GATHER = 512; // pieces: then they are given to the browser, which may put them on disk
export const LARGEST = 2 ** 30;
const OPEN_OFFERS = 20; // of one person
export const PICTURE_MOST = 4 * 2 ** 20; // bytes: a larger one is a file like others
export const PICTURES = 30; // of one person, taken without a word
const ALT_MOST = 300;

export class Files extends EventTarget {
  /** @param {Room} room */
  constructor(room) {
    super();
    this._room = room;
    /** @type {Map<string, Transfer>} */
    this.transfers = new Map();
    this._next = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
  }

  /**
   * Offer a file.
   * @param {File} file
   * @param {Participant[]} people
   * @param {{ alt: string }} [picture]
   */
  offer(file, people, picture) {
    const group = String(this._next);
    const { name, size } = file;
    const shown = picture && { ...picture, blob: file };
    const made = people.map((person) => this._add({ id: this._next++, person, name, size, file, group, picture: shown, incoming: false }));
    for (const transfer of made) {
      this._tell(transfer);
      this._control(transfer, { type: 'file-offer', name, size, picture });
    }
  }

  /** @param {Transfer} transfer */
  accept(transfer) {
    transfer.pieces = [];
    this._set(transfer, 'moving');
    this._control(transfer, { type: 'file-accept' });
    if (!transfer.size) this._received(transfer);
  }

  /** @param {Transfer} transfer */
  decline(transfer) {
    this._set(transfer, 'declined');
    this._control(transfer, { type: 'file-decline' });
  }

  /** @param {Transfer} transfer */
  cancel(transfer) {
    this._end(transfer, 'cancelled');
    this._control(transfer, { type: 'file-cancel', by: transfer.incoming ? 'receiver' : 'sender' });
  }

  /** Whether a text of the data channel was about files. @param {Participant} from @param {any} said */
  hear(from, said) {
    const act = typeof said?.type === 'string' && Object.hasOwn(ACTS, said.type) ? ACTS[said.type] : undefined;
    if (!act || !Number.isInteger(said.id)) return false;
    act(this, from, said);
    return true;
  }

  /** A piece came. @param {Participant} from @param {ArrayBuffer} data */
  take(from, data) {
    if (data.byteLength <= HEAD) return;
    const transfer = this.find(true, from, new DataView(data).getUint32(0));
    if (transfer?.status !== 'moving' || !transfer.pieces) return;
    transfer.pieces.push(data.slice(HEAD));
    transfer.done += data.byteLength - HEAD;
    if (transfer.done > transfer.size) return this.cancel(transfer); // more than was offered
    if (transfer.pieces.length > GATHER) transfer.pieces = [new Blob(transfer.pieces)];
    if (transfer.done === transfer.size) this._received(transfer);
    else this._tell(transfer);
  }

  /** Somebody left, has another page, or the channel broke: what was on its way is lost. @param {Participant} person */
  lost(person) {
    for (const transfer of this.transfers.values()) {
      if (transfer.person.clientId === person.clientId) this.told(transfer, 'failed');
    }
  }

  /** @param {boolean} incoming @param {Participant} person @param {number} id */
  find(incoming, person, id) {
    return this.transfers.get(keyOf(incoming, person, id));
  }

  /** @param {Participant} person @param {number} id @param {string} name @param {number} size @param {any} [picture] */
  offered(person, id, name, size, picture) {
    const open = [...this.transfers.values()].filter(
      (one) => one.incoming && one.status === 'offered' && one.person.clientId === person.clientId,
    );
    const isFine = typeof name === 'string' && Number.isInteger(size) && size >= 0 && size <= LARGEST;
    if (!isFine || open.length >= OPEN_OFFERS || this.find(true, person, id)) return;
    const isTaken = typeof picture?.alt === 'string' && size > 0 && size <= PICTURE_MOST && this._pictures(person) < PICTURES;
    const shown = isTaken ? { alt: picture.alt.slice(0, ALT_MOST) } : undefined;
    const transfer = this._add({ id, person, name: safeName(name), size, group: '', picture: shown, incoming: true });
    this._tell(transfer);
    if (isTaken) this.accept(transfer);
  }

  /** How many of somebody's were taken without a word. @param {Participant} person */
  _pictures(person) {
    const all = [...this.transfers.values()];
    return all.filter((one) => one.incoming && one.picture && one.person.clientId === person.clientId).length;
  }

  /** @param {Transfer} transfer */
  async pour(transfer) {
    this._set(transfer, 'moving');
    try {
      await this._pour(transfer, /** @type {File} */ (transfer.file));
    } catch {
      // The channel broke, or the file can't be read any more.
      this.told(transfer, 'failed');
    }
  }

  /** @param {Transfer} transfer @param {File} file */
  async _pour(transfer, file) {
    for (let at = 0; at < file.size; at += READ) {
      const bytes = new Uint8Array(await file.slice(at, at + READ).arrayBuffer());
      for (let from = 0; from < bytes.length; from += PIECE - HEAD) {
        if (transfer.status !== 'moving') return;
        const content = bytes.subarray(from, from + PIECE - HEAD);
        await this._room.send(transfer.person, piece(transfer.id, content));
        transfer.done += content.length;
      }
      this._tell(transfer);
    }
  }

  /** @param {Omit<Transfer, 'key' | 'done' | 'status'>} facts */
  _add(facts) {
    const key = keyOf(facts.incoming, facts.person, facts.id);
    /** @type {Transfer} */
    const transfer = { ...facts, key, done: 0, status: 'offered' };
    this.transfers.set(key, transfer);
    return transfer;
  }

  /** @param {Transfer} transfer */
  _received(transfer) {
    // Never a type that the browser would show as a page of ours.
    const blob = new Blob(transfer.pieces, { type: 'application/octet-stream' });
    transfer.url = URL.createObjectURL(blob);
    if (transfer.picture) transfer.picture.blob = blob;
    this._end(transfer, 'done');
    this._control(transfer, { type: 'file-received' });
  }

  /** @param {Transfer} transfer @param {Transfer['status']} status */
  _end(transfer, status) {
    delete transfer.pieces;
    delete transfer.file;
    this._set(transfer, status);
  }

  /** @param {Transfer} transfer @param {Transfer['status']} status */
  _set(transfer, status) {
    transfer.status = status;
    this._tell(transfer);
  }

  /**
   * The other side's word on a transfer, or the channel's: the first one counts.
   * @param {Transfer | undefined} transfer
   * @param {Transfer['status']} status
   */
  told(transfer, status) {
    if (transfer?.status === 'offered' || transfer?.status === 'moving') this._end(transfer, status);
  }

  /** @param {Transfer} transfer @param {object} said */
  _control(transfer, said) {
    const text = JSON.stringify({ id: transfer.id, ...said });
    this._room.send(transfer.person, text).catch(() => this.told(transfer, 'failed'));
  }

  /** @param {Transfer} transfer */
  _tell(transfer) {
    this.dispatchEvent(new CustomEvent('change', { detail: { transfer } }));
  }
}

/** What each control text does. @type {Record<string, (files: Files, from: Participant, said: any) => void>} */
const ACTS = {
  'file-offer': (files, from, { id, name, size, picture }) => files.offered(from, id, name, size, picture),
  'file-accept': (files, from, { id }) => {
    const transfer = files.find(false, from, id);
    if (transfer?.status === 'offered') void files.pour(transfer);
  },
  'file-decline': (files, from, { id }) => files.told(files.find(false, from, id), 'declined'),
  'file-received': (files, from, { id }) => files.told(files.find(false, from, id), 'done'),
  'file-cancel': (files, from, { id, by }) => files.told(files.find(by === 'sender', from, id), 'cancelled'),
};

/** @param {boolean} incoming @param {Participant} person @param {number} id */
const keyOf = (incoming, person, id) => `${incoming ? 'in' : 'out'}:${person.clientId}:${id}`;

/** @param {number} id @param {Uint8Array} content */
function piece(id, content) {
  const message = new Uint8Array(HEAD + content.length);
  new DataView(message.buffer).setUint32(0, id);
  message.set(content, HEAD);
  return message.buffer;
}

/**
 * A name that is no path and can't pretend to be another: no control or direction characters.
 * @param {string} name
 */
export function safeName(name) {
  const base = name.split(/[/\\]/).pop() ?? '';
  const plain = [...base.replace(/[\p{Cc}\p{Cf}<>:"|?*]/gu, '')].slice(-120).join('');
  return plain.replace(/^[.\s]+|[.\s]+$/gu, '') || 'file';
}
