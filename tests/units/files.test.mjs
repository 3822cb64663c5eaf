/** Files from one person to another (`static/js/room/files.js`). */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { settled, until } from './browser.mjs';
import { Files, LARGEST, PICTURE_MOST, PICTURES, PIECE, safeName } from '../../static/js/room/files.js';
import { summed } from '../../static/js/room/groups.js';
import { measured } from '../../static/js/room/pictures.js';

const HEAD = 4; // bytes of a piece with the offer's number
const OPEN_OFFERS = 20;

/** What was made a link: Node's own links can't be followed by `fetch` everywhere. */
const blobs = new Map();
URL.createObjectURL = (blob) => {
  const url = `blob:${blobs.size}`;
  blobs.set(url, blob);
  return url;
};

/** Somebody with files, whose channel to the others brings what is sent a moment later. */
class Side {
  sent = [];
  steps = [];
  broken = false;
  /** Awaited before each sending. */
  wait = async () => {};

  constructor(clientId, everybody) {
    this.person = { clientId };
    this.files = new Files(this);
    this.files.addEventListener('change', ({ detail }) => this.steps.push(detail.transfer.status));
    this.everybody = everybody;
    everybody.set(clientId, this);
  }

  async send({ clientId }, content) {
    await this.wait();
    if (this.broken) throw new Error('the channel is closed');
    this.sent.push(content);
    const { files } = this.everybody.get(clientId);
    if (typeof content === 'string') files.hear(this.person, JSON.parse(content));
    else files.take(this.person, content);
  }

  /** The types of the control texts that were sent. */
  get said() {
    return this.sent.filter((one) => typeof one === 'string').map((one) => JSON.parse(one).type);
  }

  get pieces() {
    return this.sent.filter((one) => typeof one !== 'string');
  }

  get all() {
    return [...this.files.transfers.values()];
  }

  get last() {
    return this.all.at(-1);
  }
}

/** Two of a room, or more. */
function room(...names) {
  const everybody = new Map();
  return (names.length ? names : ['ada', 'bob']).map((name) => new Side(name, everybody));
}

const file = (content, name = 'plan.bin') => Object.assign(new Blob([content]), { name });

/** Once nothing is open or on its way any more. */
const over = (...transfers) => until(() => transfers.every(({ status }) => !['offered', 'moving'].includes(status)));

/** Offer something, so that both know of it. */
async function offered(ada, bob, content = 'some words', name = 'plan.bin') {
  ada.files.offer(file(content, name), [bob.person]);
  await settled();
  return [ada.last, bob.last];
}

test('a file is offered, accepted and comes whole', async () => {
  const [ada, bob] = room();
  const content = randomBytes(9_000_001);
  const [out, incoming] = await offered(ada, bob, content, '../plan.bin');
  assert.deepEqual([incoming.name, incoming.size, incoming.status], ['plan.bin', content.length, 'offered']);
  assert.equal(ada.pieces.length, 0, 'nothing before it is accepted');
  bob.files.accept(incoming);
  await over(out, incoming);
  assert.deepEqual([incoming.status, incoming.done, out.done], ['done', content.length, content.length]);
  const blob = blobs.get(incoming.url);
  assert.ok(content.equals(Buffer.from(await blob.arrayBuffer())));
  assert.equal(blob.type, 'application/octet-stream', 'nothing that is shown as a page');
  const sizes = ada.pieces.map(({ byteLength }) => byteLength);
  assert.ok(sizes.every((size) => size > HEAD && size <= PIECE) && PIECE === 16_384);
  assert.equal(sizes.reduce((sum, size) => sum + size), content.length + HEAD * sizes.length);
  assert.deepEqual([ada.said, bob.said], [['file-offer'], ['file-accept', 'file-received']]);
  assert.deepEqual([out.file, incoming.pieces], [undefined, undefined], 'what is over is not kept');
});

test('each step is told', async () => {
  const [ada, bob] = room();
  const [, incoming] = await offered(ada, bob, new Uint8Array(2 * (PIECE - HEAD)));
  bob.files.accept(incoming);
  await over(incoming);
  await settled();
  assert.deepEqual(ada.steps, ['offered', 'moving', 'done', 'done']);
  assert.deepEqual(bob.steps, ['offered', 'moving', 'moving', 'done']);
});

test('an empty file needs no piece', async () => {
  const [ada, bob] = room();
  const [out, incoming] = await offered(ada, bob, '');
  bob.files.accept(incoming);
  await settled();
  assert.deepEqual([out.status, incoming.status, ada.pieces.length], ['done', 'done', 0]);
  assert.equal(blobs.get(incoming.url).size, 0);
});

test('what is declined is not sent, and can not be accepted any more', async () => {
  const [ada, bob] = room();
  const [out, incoming] = await offered(ada, bob);
  bob.files.decline(incoming);
  await settled();
  assert.deepEqual([out.status, incoming.status], ['declined', 'declined']);
  ada.files.hear(bob.person, { type: 'file-accept', id: out.id });
  await settled();
  assert.deepEqual([out.status, ada.pieces.length], ['declined', 0]);
});

test('an offer can be taken back', async () => {
  const [ada, bob] = room();
  const [out, incoming] = await offered(ada, bob);
  ada.files.cancel(out);
  await settled();
  assert.deepEqual([out.status, incoming.status], ['cancelled', 'cancelled']);
});

/** One of the two, by their place, ends it after some pieces. */
async function ended(at) {
  const [ada, bob] = room();
  const both = await offered(ada, bob, new Uint8Array(100 * PIECE));
  let left = 5; // pieces
  ada.wait = async () => {
    left -= 1;
    if (left === 0) [ada, bob][at].files.cancel(both[at]);
  };
  bob.files.accept(both[1]);
  await over(...both);
  await settled();
  assert.deepEqual(both.map(({ status }) => status), ['cancelled', 'cancelled']);
  assert.ok(ada.pieces.length <= 6, `${ada.pieces.length} pieces were sent all the same`);
  assert.deepEqual([both[0].file, both[1].pieces], [undefined, undefined]);
}

test('the sender can end what is on its way', () => ended(0));

test('the receiver can end what is on its way', () => ended(1));

test('several are asked each for themselves', async () => {
  const [ada, bob, cem, eve] = room('ada', 'bob', 'cem', 'eve');
  ada.files.offer(file('for all'), [bob.person, cem.person, eve.person]);
  await settled();
  bob.files.accept(bob.last);
  cem.files.decline(cem.last);
  await over(ada.all[0], ada.all[1]);
  assert.deepEqual(ada.all.map(({ status }) => status), ['done', 'declined', 'offered']);
  assert.equal(new Set(ada.all.map(({ id }) => id)).size, 3);
  assert.equal(new Set(ada.all.map(({ group }) => group)).size, 1);
  ada.files.offer(file('another'), [bob.person]);
  assert.notEqual(ada.last.group, ada.all[0].group);
});

test('offers that are none are refused without a word', async () => {
  const [ada, bob] = room();
  const offers = [
    { name: 5, size: 1 },
    { size: 1 },
    { name: 'x' },
    { name: 'x', size: -1 },
    { name: 'x', size: 1.5 },
    { name: 'x', size: '1' },
    { name: 'x', size: LARGEST + 1 },
    { name: 'x', size: 2 ** 60 },
  ];
  offers.forEach((one, id) => bob.files.hear(ada.person, { type: 'file-offer', id, ...one }));
  assert.deepEqual([bob.all, bob.steps, bob.sent], [[], [], []]);
  bob.files.hear(ada.person, { type: 'file-offer', id: 9, name: 'x', size: LARGEST });
  assert.equal(bob.all.length, 1);
});

test('the same offer twice is one', async () => {
  const [ada, bob] = room();
  const [out, incoming] = await offered(ada, bob);
  bob.files.accept(incoming);
  await over(out);
  bob.files.hear(ada.person, { type: 'file-offer', id: out.id, name: 'other', size: 5 });
  assert.deepEqual([bob.all.length, bob.last.name, bob.last.status], [1, 'plan.bin', 'done']);
});

test('somebody may offer so many at once, and more when some are answered', async () => {
  const [ada, bob, cem] = room('ada', 'bob', 'cem');
  for (let count = 0; count < OPEN_OFFERS + 5; count += 1) await offered(ada, bob, 'x', `${count}`);
  assert.equal(bob.all.length, OPEN_OFFERS);
  await offered(cem, bob);
  assert.equal(bob.all.length, OPEN_OFFERS + 1, "another's is another matter");
  bob.files.decline(bob.all[0]);
  bob.files.accept(bob.all[1]);
  for (let count = 0; count < 5; count += 1) await offered(ada, bob, 'x', 'later');
  assert.equal(bob.all.filter(({ name }) => name === 'later').length, 2);
});

test('only whom it was offered to can accept it, and once', async () => {
  const [ada, bob, cem] = room('ada', 'bob', 'cem');
  const [out, incoming] = await offered(ada, bob);
  ada.files.hear(cem.person, { type: 'file-accept', id: out.id });
  ada.files.hear(bob.person, { type: 'file-accept', id: out.id + 1 });
  await settled();
  assert.deepEqual([out.status, ada.pieces.length], ['offered', 0]);
  bob.files.accept(incoming);
  ada.files.hear(bob.person, { type: 'file-accept', id: out.id });
  await over(out);
  await settled();
  assert.deepEqual([out.status, ada.pieces.length], ['done', 1]);
});

test('pieces that nobody waits for are dropped', async () => {
  const [ada, bob] = room();
  const [{ id }, incoming] = await offered(ada, bob);
  const piece = (number, length) => {
    const data = new ArrayBuffer(HEAD + length);
    new DataView(data).setUint32(0, number);
    return data;
  };
  for (const data of [new ArrayBuffer(0), new ArrayBuffer(3), piece(id, 0), piece(id, 5), piece(77, 5)]) {
    bob.files.take(ada.person, data);
  }
  assert.deepEqual([incoming.done, incoming.status], [0, 'offered'], 'it is not accepted');
  bob.files.decline(incoming);
  bob.files.take(ada.person, piece(id, 5));
  assert.deepEqual([incoming.done, incoming.status, incoming.pieces], [0, 'declined', undefined]);
});

test('more than was offered ends it', async () => {
  const [ada, bob] = room();
  bob.files.hear(ada.person, { type: 'file-offer', id: 7, name: 'x', size: 5 });
  bob.files.accept(bob.last);
  const data = new Uint8Array(HEAD + 6);
  new DataView(data.buffer).setUint32(0, 7);
  bob.files.take(ada.person, data.buffer);
  await settled();
  assert.deepEqual([bob.last.status, bob.last.url, bob.last.pieces], ['cancelled', undefined, undefined]);
  assert.deepEqual(JSON.parse(bob.sent.at(-1)), { id: 7, type: 'file-cancel', by: 'receiver' });
});

test('a channel that is broken fails what is sent over it', async () => {
  const [ada, bob] = room();
  const [out, incoming] = await offered(ada, bob, new Uint8Array(100 * PIECE));
  ada.wait = async () => {
    if (ada.pieces.length === 5) ada.broken = true;
  };
  bob.files.accept(incoming);
  await over(out);
  assert.deepEqual([out.status, out.file], ['failed', undefined]);
  await offered(ada, bob, 'not even the offer');
  assert.equal(ada.last.status, 'failed');
});

test('what was cancelled stays so when the channel breaks afterwards', async () => {
  const [ada, bob] = room();
  const [out, incoming] = await offered(ada, bob, new Uint8Array(9 * PIECE));
  let go;
  ada.wait = () => new Promise((resolve) => (go = resolve));
  bob.files.accept(incoming);
  await until(() => go);
  const sending = go;
  ada.wait = async () => {};
  ada.files.cancel(out);
  ada.broken = true;
  sending();
  await settled();
  assert.equal(out.status, 'cancelled');
});

test('a file that can not be read any more fails', async () => {
  const [ada, bob] = room();
  const arrayBuffer = () => Promise.reject(new Error('NotReadableError'));
  const gone = { name: 'gone', size: 5, slice: () => ({ arrayBuffer }) };
  ada.files.offer(gone, [bob.person]);
  await settled();
  bob.files.accept(bob.last);
  await over(ada.last);
  assert.equal(ada.last.status, 'failed');
});

test('when somebody is lost, so is what was open with them, and nothing else', async () => {
  const [ada, bob, cem] = room('ada', 'bob', 'cem');
  const [done, incoming] = await offered(ada, bob);
  bob.files.accept(incoming);
  const [refused, unwanted] = await offered(ada, bob);
  bob.files.decline(unwanted);
  await over(done, refused);
  const [open] = await offered(ada, bob);
  const [elsewhere] = await offered(ada, cem);
  const [, given] = await offered(bob, ada);
  ada.files.lost({ clientId: 'bob' });
  assert.deepEqual(
    [done, refused, open, given, elsewhere].map(({ status }) => status),
    ['done', 'declined', 'failed', 'failed', 'offered'],
  );
});

test('what is done stays done, whatever is said later', async () => {
  const [ada, bob] = room();
  const [out, incoming] = await offered(ada, bob);
  bob.files.accept(incoming);
  await over(out);
  ada.files.hear(bob.person, { type: 'file-decline', id: out.id });
  ada.files.hear(bob.person, { type: 'file-cancel', id: out.id, by: 'receiver' });
  bob.files.hear(ada.person, { type: 'file-cancel', id: out.id, by: 'sender' });
  assert.deepEqual([out.status, incoming.status], ['done', 'done']);
});

test('a word on what nobody knows of does nothing', () => {
  const [ada, bob] = room();
  for (const type of ['file-accept', 'file-decline', 'file-received', 'file-cancel']) {
    assert.equal(ada.files.hear(bob.person, { type, id: 99 }), true);
  }
  assert.deepEqual([ada.all, ada.sent, ada.steps], [[], [], []]);
});

test('other texts of the channel are not about files', () => {
  const [ada, bob] = room();
  const texts = [null, undefined, 5, 'file-offer', [], {}, { type: 'recording', id: 1 }, { type: 5, id: 1 }];
  const bad = [{ type: 'constructor', id: 1 }, { type: '__proto__', id: 1 }, { type: 'file-offer', id: {} }];
  for (const said of [...texts, ...bad, { type: 'file-cancel' }, { type: 'file-cancel', id: '1' }]) {
    assert.equal(ada.files.hear(bob.person, said), false, JSON.stringify(said));
  }
  assert.deepEqual(ada.all, []);
});

test('a name is no path and can not pretend to be another', () => {
  const names = {
    'plan.bin': 'plan.bin',
    'Ağustos toplantısı (2).pdf': 'Ağustos toplantısı (2).pdf',
    '../../etc/passwd': 'passwd',
    'C:\\Users\\ada\\notes.txt': 'notes.txt',
    'a\u202etxt.exe': 'atxt.exe',
    'a\u0000b\u001b[31m\u200bc\ufeff.txt': 'ab[31mc.txt',
    '<b>"x"|?*:.html': 'bx.html',
    '.bashrc': 'bashrc',
    '. . hidden .. ': 'hidden',
    '': 'file',
    '..': 'file',
    'folder/': 'file',
    '\u202e\u200f': 'file',
  };
  for (const [given, wanted] of Object.entries(names)) assert.equal(safeName(given), wanted);
});

test('of a long name the end is kept, which says what it is', () => {
  const name = safeName(`${'long '.repeat(100)}.tar.gz`);
  assert.equal(name.length, 120);
  assert.ok(name.endsWith('long .tar.gz'));
});

test('a name is cut at whole characters, and never to a hidden one', () => {
  assert.equal(safeName(`x.${'b'.repeat(119)}`), 'b'.repeat(119));
  assert.equal(safeName(`${'😀'.repeat(200)}.md`), `${'😀'.repeat(117)}.md`);
});

// ---- one card for all, pictures ------------------------------------------------------------------------

test('what was offered to several is summed up', () => {
  const one = (status, done = 0, size = 100) => ({ status, done, size });
  const sum = (...all) => Object.values(summed(all));
  assert.deepEqual(sum(one('offered'), one('offered')), ['offered', 2, 0, 1]);
  assert.deepEqual(sum(one('done', 100), one('moving', 50), one('offered')), ['moving', 3, 1, 0.75]);
  assert.deepEqual(sum(one('done', 100), one('offered'), one('declined')), ['offered', 3, 1, 1]);
  assert.deepEqual(sum(one('done', 100), one('declined'), one('failed', 30)), ['done', 3, 1, 1]);
  assert.deepEqual(sum(one('declined'), one('cancelled')), ['declined', 2, 0, 1]);
  assert.deepEqual(sum(one('done', 0, 0)), ['done', 1, 1, 1]);
});

test('all to whom a file goes are known before anything is told', async () => {
  const [ada, bob, cem] = room('ada', 'bob', 'cem');
  const seen = [];
  ada.files.addEventListener('change', () => seen.push(ada.all.length));
  ada.files.offer(file('x'), [bob.person, cem.person]);
  assert.deepEqual(seen, [2, 2]);
  assert.equal(new Set(ada.all.map(({ group }) => group)).size, 1);
  await settled();
});

test('a small picture is taken without a word, with what it shows; not a large one, nor too many', async () => {
  const [ada, bob] = room();
  ada.files.offer(file('x'), [bob.person], { alt: 'A plan' });
  await until(() => bob.last?.status === 'done');
  assert.equal(bob.last.picture.alt, 'A plan');
  assert.equal(await bob.last.picture.blob.text(), 'x');
  assert.equal(bob.last.picture.blob.type, 'application/octet-stream');
  const offer = (more) => bob.files.hear(ada.person, { type: 'file-offer', name: 'x', size: 5, picture: { alt: '' }, ...more });
  offer({ id: 1, size: PICTURE_MOST + 1 });
  offer({ id: 2, size: 0 });
  for (const [at, picture] of [{}, { alt: 1 }, 'x', null, true].entries()) offer({ id: 3 + at, picture });
  assert.deepEqual(bob.all.slice(1).map(({ status, picture }) => [status, picture]), Array(7).fill(['offered', undefined]));
  offer({ id: 50, picture: { alt: 'y'.repeat(1000) } });
  assert.equal(bob.last.picture.alt.length, 300);
  for (let id = 100; id < 100 + PICTURES; id += 1) offer({ id });
  assert.equal(bob.all.filter(({ picture }) => picture).length, PICTURES);
  assert.equal(bob.last.status, 'offered');
});

test('a picture is a PNG or a JPEG, of a size that is known before it is opened', () => {
  const png = (width, height) => {
    const bytes = new Uint8Array(30);
    const view = new DataView(bytes.buffer);
    [0x89504e47, 0x0d0a1a0a, 13, 0x49484452, width, height].forEach((word, at) => view.setUint32(4 * at, word));
    return bytes;
  };
  assert.deepEqual(measured(png(640, 70_000)), { type: 'image/png', width: 640, height: 70_000 });
  const jpeg = [0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc4, 0, 3, 9, 0xff, 0xc2, 0, 17, 8, 0, 90, 0, 160, 3, 0, 0];
  assert.deepEqual(measured(new Uint8Array(jpeg)), { type: 'image/jpeg', width: 160, height: 90 });
  const hostile = ['<svg xmlns="x" onload="alert(1)"/>', 'GIF89a\x01\x00\x01\x00', '', '\xff\xd8', 'RIFF....WEBP', '<html>'];
  for (const text of hostile) assert.equal(measured(Uint8Array.from(text, (one) => one.charCodeAt(0))), undefined, text);
  assert.equal(measured(new Uint8Array([0xff, 0xd8, ...Array(400).fill(0xff)])), undefined);
  assert.equal(measured(new Uint8Array([0xff, 0xd8, 0xff, 0xe0, 0, 0, ...Array(400).fill(0)])), undefined, 'a piece of no length');
});
