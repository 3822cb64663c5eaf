/** The client library without a network (`static/js/rt.js`): what it takes, tells, and waits for. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Clock, put, settled } from './browser.mjs';
import { connect, RtError } from '../../static/js/rt.js';
// Loaded when they are asked for, and here at once.
import '../../static/js/rt-more.js';
import '../../static/js/rt-socket.js';

/** A WebSocket that the test speaks for. */
class Socket {
  static OPEN = 1;
  static made = [];
  readyState = 1;
  sent = [];

  constructor(url) {
    this.url = new URL(url);
    Socket.made.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
    this.onclose();
  }

  /** A frame of the server's. */
  async frame(frame) {
    this.onmessage({ data: JSON.stringify(frame) });
    await settled();
  }
}
put('WebSocket', Socket);

const HELLO = { clientId: 'me', session: 's'.repeat(22), pingInterval: 20 };
const encoder = new TextEncoder();

/** A stream that the test writes to. */
class Stream {
  constructor() {
    const body = new ReadableStream({ start: (controller) => (this.controller = controller) });
    this.response = new Response(body, { headers: { 'Content-Type': 'text/event-stream' } });
  }

  /** Send an event; of several fields the order is the server's. */
  async event(fields) {
    const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\n`);
    await this.bytes(encoder.encode(`${lines.join('')}\n`));
  }

  async bytes(bytes) {
    this.controller.enqueue(bytes);
    await settled();
  }

  async end() {
    this.controller.close();
    await settled();
  }
}

/** What the server does with each call; the calls that came, newest last. */
let server = () => {};
let calls = [];
let clock;
let rt;

beforeEach(() => {
  calls = [];
  Socket.made = [];
  clock = new Clock();
  Math.random = () => 0;
  put('fetch', async (url, request) => {
    calls.push({ url, ...request });
    const answer = await server(url, request);
    const { signal } = request;
    // Like a browser's, it ends with its signal, also while its body is read.
    if (!signal || !answer.body) return answer;
    return new Response(answer.body.pipeThrough(new TransformStream(), { signal }), answer);
  });
});
afterEach(() => rt?.close());

/** A client alone, with what it was told by these names. */
function client(options = {}, names = ['connecting', 'open', 'reconnecting', 'closed', 'recovered', 'buffering']) {
  rt = connect('http://server.test/app/', { shared: false, ...options });
  const told = [];
  for (const name of names) rt.on(name, (data) => told.push([name, data]));
  return told;
}

/** A client whose streams the test has in its hands. */
async function connected(options, names) {
  const streams = [];
  server = (url) => {
    if (!url.pathname.endsWith('/events')) return Response.json({ message: { id: 7 } });
    streams.push(new Stream());
    return streams.at(-1).response;
  };
  const told = client(options, names);
  await clock.run(1);
  await streams[0].event({ event: 'connection', data: JSON.stringify(HELLO) });
  return { told, streams };
}

/** A server that answers so. */
const refusing = (status, headers = {}) => () => Response.json({ code: 'no', detail: 'No.' }, { status, headers });
const unreachable = () => Promise.reject(new TypeError('Failed to fetch'));
const delays = (told) => told.filter(([name]) => name === 'reconnecting').map(([, { delay }]) => delay);

// ---- how long it waits ---------------------------------------------------------------------------

test('the longest wait doubles up to half a minute', async () => {
  server = unreachable;
  Math.random = () => 1;
  const told = client({ attempts: Infinity });
  await clock.run(200_000);
  assert.deepEqual(delays(told).slice(0, 7), [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  assert.deepEqual(told[1][1].error, { message: 'TypeError: Failed to fetch', status: 0, code: 'unreachable' });
});

test('each wait is by chance between nothing and the longest', async () => {
  server = unreachable;
  const chances = [0, 0.25, 0.5];
  Math.random = () => chances.shift() ?? 0;
  const told = client({ attempts: 3 });
  await clock.run(60_000);
  assert.deepEqual(delays(told), [0, 500, 2_000]);
});

test('after so many attempts it gives up, and goes on when it is told to', async () => {
  server = unreachable;
  const told = client();
  await clock.run(60_000);
  assert.equal(calls.length, 6, 'the first and five more');
  assert.deepEqual(told.filter(([name]) => name === 'reconnecting').map(([, { attempt }]) => attempt), [1, 2, 3, 4, 5]);
  const [name, { reason, error }] = told.at(-1);
  assert.deepEqual([name, reason, error.code, rt.state], ['closed', 'gave up', 'unreachable', 'closed']);
  rt.retryNow();
  await clock.run(60_000);
  assert.equal(calls.length, 12);
});

test('what asking again can not help ends it, the rest does not', async () => {
  for (const status of [400, 401, 403, 404, 410]) {
    server = refusing(status);
    const told = client();
    await clock.run(60_000);
    assert.deepEqual([calls.splice(0).length, told.at(-1)[1].reason], [1, 'refused'], `${status}`);
    assert.deepEqual(told.at(-1)[1].error, { message: 'No.', status, code: 'no' });
  }
  for (const status of [408, 429, 500, 502, 503]) {
    server = refusing(status);
    const told = client();
    await clock.run(60_000);
    assert.deepEqual([calls.splice(0).length, told.at(-1)[1].reason], [6, 'gave up'], `${status}`);
  }
});

test("a server's Retry-After is the least wait, whoever looks", async () => {
  server = refusing(503, { 'Retry-After': '9' });
  Math.random = () => 0.5;
  const told = client();
  await clock.run(0);
  dispatchEvent(new Event('online'));
  await clock.run(9_499);
  assert.deepEqual([calls.length, delays(told)], [1, [9_500]]);
  await clock.run(1);
  assert.equal(calls.length, 2);
});

test('a wait longer than a timer can be is as long as it can', async () => {
  server = refusing(503, { 'Retry-After': '9999999' });
  client({ attempts: Infinity });
  await clock.run(60_000);
  assert.equal(calls.length, 1);
});

test('the network that is back, or somebody who looks, is tried for at once and costs no attempt', async () => {
  server = unreachable;
  Math.random = () => 0.99;
  const told = client({ attempts: 2 });
  await clock.run(0);
  for (let turn = 2; turn < 10; turn += 1) {
    if (turn % 2) dispatchEvent(new Event('online'));
    else document.dispatchEvent(new Event('visibilitychange'));
    await clock.run(0);
    assert.equal(calls.length, turn);
  }
  assert.deepEqual(new Set(told.map(([name]) => name)), new Set(['connecting', 'reconnecting']));
  document.visibilityState = 'hidden';
  document.dispatchEvent(new Event('visibilitychange'));
  document.visibilityState = 'visible';
  await clock.run(0);
  assert.equal(calls.length, 9, 'nobody looked');
});

test("the server's retry: counts for the next attempt only", async () => {
  const { told, streams } = await connected({ attempts: 3 });
  await streams[0].bytes(encoder.encode('retry: 3000\n\n'));
  server = unreachable;
  await streams[0].end();
  await clock.run(10_000);
  assert.deepEqual(delays(told), [3_000, 0, 0]);
});

test('once it was open the attempts are counted anew', async () => {
  server = unreachable;
  Math.random = () => 1;
  const told = client();
  await clock.run(4_000);
  assert.deepEqual(delays(told), [1_000, 2_000, 4_000]);
  const stream = new Stream();
  server = () => stream.response;
  await clock.run(4_000);
  await stream.event({ event: 'connection', data: JSON.stringify({ ...HELLO, recovered: true }) });
  server = unreachable;
  await clock.run(6_000);
  await stream.end();
  await clock.run(0);
  assert.equal(delays(told).at(-1), 1_000);
});

test('a server that takes connections and drops them is given up', async () => {
  const streams = [];
  server = () => {
    streams.push(new Stream());
    setTimeout(async () => {
      await streams.at(-1).event({ event: 'connection', data: JSON.stringify(HELLO) });
      await streams.at(-1).end();
    }, 1);
    return streams.at(-1).response;
  };
  Math.random = () => 1;
  const told = client();
  await clock.run(300_000);
  assert.deepEqual(delays(told), [1_000, 2_000, 4_000, 8_000, 16_000]);
  assert.deepEqual([streams.length, told.at(-1)[1].reason], [6, 'gave up']);
});

test('silence is measured by a clock that nobody sets', async () => {
  const { told } = await connected();
  const date = Date.now;
  Date.now = () => date() - 3_600_000;
  await clock.run(47_000);
  assert.equal(told.at(-1)[1].error?.code, 'silent', 'an hour back');
  rt.close();
  Date.now = date;
  const { told: others, streams } = await connected();
  Date.now = () => date() + 3_600_000;
  await clock.run(20_000);
  await streams[0].event({ event: 'ping', data: '{"type":"ping"}' });
  await clock.run(40_000);
  assert.deepEqual([others.at(-1)[0], streams.length], ['open', 1], 'an hour ahead');
  Date.now = date;
});

test('a machine that slept wants to hear its stream soon', async () => {
  const { told } = await connected();
  const date = Date.now;
  Date.now = () => date() + 3_600_000; // the other clock stood still
  await clock.run(24_000);
  assert.equal(told.at(-1)[1].error?.code, 'silent');
  Date.now = date;
});

test('a connection from which nothing is heard is given up', async () => {
  const { told } = await connected();
  await clock.run(45_000);
  assert.equal(rt.state, 'open', 'two pings and some may be missed');
  await clock.run(2_000);
  const lost = told.find(([name]) => name === 'reconnecting');
  assert.equal(lost[1].error.code, 'silent');
});

test('what came while the page was stalled is read before its stream is given up', async () => {
  const { told, streams } = await connected();
  for (let stalls = 0; stalls < 3; stalls += 1) {
    clock.stall(50_000);
    await clock.run(1); // the timers first, as in Node
    await streams[0].event({ event: 'ping', data: '{"type":"ping"}' });
    await clock.run(5_000);
  }
  assert.deepEqual([rt.state, streams.length], ['open', 1]);
  await clock.run(47_000);
  const lost = told.find(([name]) => name === 'reconnecting');
  assert.equal(lost[1].error.code, 'silent', 'one that is dead is noticed all the same');
});

test('a stream that is held back is told, if the server answers otherwise', async () => {
  const silent = new Stream();
  server = (url) => (url.pathname.endsWith('/healthz') ? new Response('ok') : silent.response);
  const told = client({}, ['buffering', '*']);
  console.warn = () => {};
  await clock.run(4_999);
  assert.deepEqual(told, []);
  await clock.run(1);
  await settled();
  assert.deepEqual(told, [['buffering', {}]], 'and it is no message');
  rt.close();
  server = (url) => (url.pathname.endsWith('/healthz') ? unreachable() : new Stream().response);
  const others = client({}, ['buffering']);
  await clock.run(6_000);
  assert.deepEqual(others, [], 'a server that is away holds nothing back');
  rt.close();
  calls = [];
  await connected();
  await clock.run(6_000);
  assert.equal(calls.length, 1, 'nor is it asked where something came');
});

test('a stream that ends while the server is asked is not held back', async () => {
  let answer;
  for (const end of [(stream) => stream.end(), () => rt.close()]) {
    const stream = new Stream();
    server = (url) => (url.pathname.endsWith('/healthz') ? new Promise((resolve) => (answer = resolve)) : stream.response);
    Math.random = () => 1; // the next attempt is later
    const told = client({}, ['buffering', 'reconnecting', 'closed']);
    await clock.run(5_000);
    await end(stream);
    answer(new Response('ok'));
    await settled();
    assert.equal(told.length, 1, JSON.stringify(told));
    rt.close();
  }
});

test('nor is one whose first bytes come behind the answer', async () => {
  const stream = new Stream();
  let asked = 0;
  server = (url) => {
    if (!url.pathname.endsWith('/healthz')) return stream.response;
    asked += 1;
    if (asked > 1) void stream.event({ event: 'connection', data: JSON.stringify(HELLO) });
    return new Promise((resolve) => setImmediate(() => setImmediate(() => resolve(new Response('ok')))));
  };
  const told = client({}, ['buffering', 'open']);
  await clock.run(6_000);
  await settled();
  assert.deepEqual([told.map(([name]) => name), asked], [['open'], 2]);
});

test('what does not end by its signal is given up as well', async () => {
  const never = new Promise(() => {});
  for (const options of [{ fetch: () => never }, { getToken: () => never }]) {
    const told = client({ ...options, attempts: 1 });
    await clock.run(60_000);
    assert.deepEqual(told.map(([name]) => name), ['connecting', 'reconnecting', 'closed']);
    assert.equal(told[1][1].error.code, 'silent');
  }
});

test('closed by whoever hears that it is connected, it stays closed', async () => {
  const stream = new Stream();
  server = () => stream.response;
  const told = client({}, ['open', 'closed']);
  rt.on('connection', () => rt.close());
  await clock.run(1);
  await stream.event({ event: 'connection', data: JSON.stringify(HELLO) });
  assert.deepEqual([rt.state, told], ['closed', [['closed', { reason: 'closed' }]]]);
});

test('closed by whoever hears that it begins, it asks nobody', async () => {
  server = () => new Stream().response;
  const told = client();
  rt.on('connecting', () => rt.close());
  for (const act of [() => {}, () => rt.retryNow()]) {
    act();
    await clock.run(1);
    assert.deepEqual([rt.state, calls.length], ['closed', 0]);
  }
  assert.deepEqual(told.map(([name]) => name), ['connecting', 'closed', 'connecting', 'closed']);
});

test('calls at once have one token', async () => {
  server = unreachable;
  let asked = 0;
  client({ getToken: () => `token ${(asked += 1)}` });
  const listed = rt.channel('a').history().catch(() => {});
  await clock.run(0);
  await listed;
  assert.deepEqual([asked, new Set(calls.map(({ headers }) => headers.Authorization))], [1, new Set(['Bearer token 1'])]);
});

// ---- what it takes -------------------------------------------------------------------------------

test('an event may come in any pieces', async () => {
  const { told, streams } = await connected({ channels: ['a'] }, ['chat', 'message']);
  const first = 'id: 0000abcd-5\nevent: chat\nchannel: a\ndata: "İyi günler 👋"\n\n';
  const text = `${first}: a comment\n\nid: 0000abcd-6\ndata: [1]\n\n`;
  for (const byte of encoder.encode(text)) streams[0].controller.enqueue(new Uint8Array([byte]));
  await settled();
  await settled();
  assert.deepEqual(told, [['chat', 'İyi günler 👋'], ['message', [1]]]);
  assert.equal(rt.lastEventId, '0000abcd-6');
});

test('a message has its own name unless the client says that of itself', async () => {
  const own = ['connecting', 'open', 'reconnecting', 'closed', 'recovered', 'buffering'];
  const { streams } = await connected();
  const told = [];
  const all = [];
  for (const name of [...own, 'chat', '**']) rt.on(name, (data) => told.push([name, data]));
  const messages = [];
  rt.on('message', (data, { event }) => messages.push(event));
  rt.on('*', (data) => all.push(data));
  for (const event of [...own, '*', 'chat', '**']) await streams[0].event({ event, data: '{"reason":"invented"}' });
  const data = { reason: 'invented' };
  assert.deepEqual(told, [['chat', data], ['**', data]]);
  assert.deepEqual(messages, [...own, '*']);
  assert.equal(all.length, own.length + 3);
});

test('what the server says has the name of its type, and is no message', async () => {
  const names = ['message', '*', 'presence-joined', 'room-ended', 'webrtc-signal', 'participant-left', 'ping'];
  const { told, streams } = await connected({}, names);
  for (const type of names.slice(2)) await streams[0].event({ data: JSON.stringify({ type }) });
  assert.deepEqual(told.map(([name]) => name), names.slice(2));
  await streams[0].event({ data: '{"type":"chat"}' });
  assert.deepEqual(told.slice(-2).map(([name]) => name), ['message', '*'], 'a type of somebody else');
});

test('what came is not told again, and another epoch begins anew', async () => {
  const { told } = await connected({}, ['message']);
  for (const id of ['00aa-9', '00aa-9', '00aa-8', '00aa-10', '00aa-2', '00bb-1', '00bb-1', '00bb-2']) {
    rt.pass({ name: 'message', data: id, id });
  }
  assert.deepEqual(told.map(([, data]) => data), ['00aa-9', '00aa-10', '00bb-1', '00bb-2']);
  assert.equal(rt.lastEventId, '00bb-2');
});

test('news of the connection is told at any position', async () => {
  const names = ['connection', 'ping', 'reset', 'disconnect', 'room-ended'];
  const { told } = await connected({ since: '00aa-9' }, names);
  told.length = 0;
  for (const name of names) rt.pass({ name, data: {}, id: '00aa-9' });
  assert.deepEqual(told.map(([name]) => name), names.slice(0, 4));
  assert.equal(rt.lastEventId, '00aa-9');
});

test('a channel that is not listened to is not told', async () => {
  const { told } = await connected({ channels: ['a'] }, ['message']);
  for (const channel of ['a', 'b', undefined]) rt.pass({ name: 'message', data: channel ?? 'all', channel });
  await rt.unsubscribe('a');
  rt.pass({ name: 'message', data: 'left', channel: 'a', id: '00aa-9' });
  assert.deepEqual(told.map(([, data]) => data), ['a', 'all']);
  assert.equal(rt.lastEventId, '00aa-9', 'but the position goes on');
});

test('listeners come and go, and one that fails is not the others', async () => {
  const seen = [];
  const faults = [];
  put('reportError', (error) => faults.push(error.message));
  const { streams } = await connected();
  rt.once('a', () => seen.push('once'));
  const gone = () => seen.push('gone');
  rt.on('a', gone);
  rt.off('a', gone);
  rt.on('a', gone)();
  rt.on('a', () => {
    throw new Error('a listener of its own');
  });
  rt.on('a', (data) => seen.push(data));
  rt.on('b', () => seen.push('b'));
  rt.off('b');
  for (const data of ['1', '2']) await streams[0].event({ event: 'a', data });
  await streams[0].event({ event: 'b', data: '3' });
  assert.deepEqual(seen, ['once', 1, 2]);
  assert.deepEqual(faults, ['a listener of its own', 'a listener of its own']);
});

test('each of its listeners is told, even if one of them goes meanwhile', async () => {
  await connected();
  const seen = [];
  const second = () => seen.push('second');
  rt.on('a', () => rt.off('a', second));
  rt.on('a', second);
  rt.pass({ name: 'a', data: 1 });
  rt.pass({ name: 'a', data: 2 });
  assert.deepEqual(seen, ['second']);
});

// ---- coming back ---------------------------------------------------------------------------------

test('it comes back behind the last message, by the session of before', async () => {
  const { told, streams } = await connected({ channels: ['a', 'b'] });
  await streams[0].event({ id: '00aa-5', data: '1' });
  await streams[0].end();
  await clock.run(0);
  const [first, second] = calls;
  assert.equal(first.headers['Last-Event-ID'], undefined);
  assert.equal(second.headers['Last-Event-ID'], '00aa-5');
  assert.equal(second.headers['X-Session'], HELLO.session);
  assert.equal(second.url.href, 'http://server.test/app/api/events?labels=1&channel=a&channel=b');
  assert.deepEqual(told.map(([name]) => name), ['connecting', 'open', 'reconnecting']);
});

test('recovered is told when it came back and nothing was missed', async () => {
  for (const recovered of [true, false]) {
    const { told, streams } = await connected();
    await streams[0].end();
    await clock.run(0);
    await streams[1].event({ event: 'connection', data: JSON.stringify({ ...HELLO, recovered }) });
    assert.equal(told.some(([name]) => name === 'recovered'), recovered);
    rt.close();
  }
});

test('a first connection recovers nothing', async () => {
  const stream = new Stream();
  server = () => stream.response;
  const told = client({ since: '00aa-5' });
  await settled();
  await stream.event({ event: 'connection', data: JSON.stringify({ ...HELLO, recovered: true }) });
  assert.deepEqual(told.map(([name]) => name), ['connecting', 'open']);
  assert.equal(calls[0].headers['Last-Event-ID'], '00aa-5');
});

test('who is put out does not come back', async () => {
  const { told, streams } = await connected();
  await streams[0].event({ event: 'disconnect', data: '{"reason":"by an administrator"}' });
  await clock.run(60_000);
  assert.equal(calls.length, 1);
  const [name, { reason, error }] = told.at(-1);
  assert.deepEqual([name, reason, error.message], ['closed', 'disconnected', 'by an administrator']);
});

test('closed at once, it never connects', async () => {
  server = unreachable;
  const told = client();
  rt.close();
  await clock.run(60_000);
  assert.deepEqual([calls, told.map(([name]) => name)], [[], ['closed']]);
});

// ---- WebSocket -----------------------------------------------------------------------------------

/** A client over a WebSocket that the test has in its hands. */
async function socketed(options, names) {
  server = () => Response.json({ ticket: 'once' });
  const told = client({ transport: 'websocket', ...options }, names);
  await clock.run(1);
  const [socket] = Socket.made;
  await socket.frame({ type: 'connection', ...HELLO });
  return { told, socket };
}

test('a WebSocket is opened once HTTP has been asked whether it may, and by a ticket', async () => {
  const session = 'a-secret-that-nobody-logs';
  const { socket } = await socketed({ channels: ['a'], since: '00aa-5', session });
  assert.deepEqual([calls[0].method, calls[0].url.pathname], ['HEAD', '/app/api/events']);
  assert.deepEqual([calls[1].url.pathname, JSON.parse(calls[1].body)], ['/app/api/auth/ticket', { session }]);
  const { protocol, pathname, searchParams } = socket.url;
  assert.deepEqual([protocol, pathname], ['ws:', '/app/ws']);
  assert.equal(searchParams.toString(), 'channel=a&lastEventId=00aa-5&ticket=once');
  rt.close();
  server = refusing(401);
  const told = client({ transport: 'websocket' });
  await clock.run(60_000);
  assert.deepEqual([Socket.made.length, told.at(-1)[1].reason], [1, 'refused']);
});

test('a token goes into no address: it buys a ticket', async () => {
  const { socket } = await socketed({ token: 'secret' });
  assert.deepEqual([calls[1].url.pathname, calls[1].headers.Authorization], ['/app/api/auth/ticket', 'Bearer secret']);
  assert.ok(![socket.url.href, ...calls.map(({ url }) => url.href)].join().includes('secret'));
});

test('without a WebSocket it says what to give', async () => {
  put('WebSocket', undefined);
  const told = client({ transport: 'websocket' });
  await clock.run(1);
  put('WebSocket', Socket);
  assert.deepEqual([told.at(-1)[1].reason, told.at(-1)[1].error.code], ['refused', 'no_websocket']);
  rt.close();
  await socketed({ WebSocket: Socket });
  assert.equal(rt.state, 'open');
});

test('what is volatile goes by WebSocket too', async () => {
  const { socket } = await socketed();
  const sent = rt.emit('typing', 1, { channel: 'a', volatile: true });
  await settled();
  const [{ ref, ...frame }] = socket.sent;
  assert.deepEqual(frame, { type: 'publish', channel: 'a', event: 'typing', volatile: true, data: 1 });
  await socket.frame({ type: 'ack', ref, id: null });
  assert.equal((await sent).id, null);
});

test('frames are told as events are', async () => {
  const names = ['chat', 'message', 'room-ended', 'closed', 'something-new'];
  const { told, socket } = await socketed({ channels: ['a'] }, names);
  await socket.frame({ type: 'message', id: '00aa-5', channel: 'a', event: 'chat', data: 1 });
  await socket.frame({ type: 'message', id: '00aa-6', channel: null, data: 2 });
  await socket.frame({ type: 'message', id: '00aa-7', event: 'closed', data: 3 });
  await socket.frame({ type: 'room-ended', roomId: 'x' });
  await socket.frame({ type: 'something-new', data: 4 });
  assert.deepEqual(told.map(([name]) => name), ['chat', 'message', 'message', 'room-ended']);
  assert.equal(rt.lastEventId, '00aa-7');
});

test('each question gets its own answer', async () => {
  const { socket } = await socketed();
  const answers = Promise.allSettled([rt.emit('chat', 1, { channel: 'a' }), rt.subscribe('b'), rt.emit('chat', 2)]);
  await settled();
  const [first, third] = socket.sent.filter(({ type }) => type === 'publish');
  const second = socket.sent.find(({ type }) => type === 'subscribe');
  assert.deepEqual(first, { type: 'publish', channel: 'a', event: 'chat', data: 1, ref: first.ref });
  assert.deepEqual(second, { type: 'subscribe', channels: ['b'], ref: second.ref });
  await socket.frame({ type: 'ack', ref: third.ref, id: 8 });
  await socket.frame({ type: 'error', ref: second.ref, code: 'reserved_channel', message: 'No.' });
  await socket.frame({ type: 'ack', ref: first.ref, id: 7 });
  const [one, refused, other] = await answers;
  assert.deepEqual([one.value.id, other.value.id], [7, 8]);
  const { name, code, message, final } = refused.reason;
  assert.deepEqual([name, code, message, final], ['RtError', 'reserved_channel', 'No.', true]);
  assert.deepEqual([...rt.channels], []);
});

test('what was asked on a connection that is lost fails', async () => {
  const { told, socket } = await socketed();
  const sent = rt.emit('chat', 1);
  const failed = assert.rejects(sent, { name: 'RtError', message: 'the connection was lost', final: false });
  await settled();
  socket.close();
  await failed;
  await settled();
  assert.equal(told.at(-1)[0], 'reconnecting');
});

// ---- what it asks --------------------------------------------------------------------------------

test('a message is posted with what it is for', async () => {
  await connected({ token: 'secret' });
  const sent = async (...args) => {
    const answer = await rt.emit(...args);
    const { url, method, body, headers } = calls.at(-1);
    return { answer, at: url.pathname + url.search, method, body, token: headers.Authorization };
  };
  const same = { answer: { id: 7 }, method: 'POST', token: 'Bearer secret' };
  assert.deepEqual(await sent('message', 'hi'), { ...same, at: '/app/api/broadcast', body: '"hi"' });
  assert.deepEqual(await sent('chat'), { ...same, at: '/app/api/broadcast?event=chat', body: 'null' });
  const options = { channel: 'a b', to: 'you', volatile: true };
  const at = '/app/api/broadcast?channel=a+b&to=you&event=chat&volatile=1';
  assert.deepEqual(await sent('chat', [1], options), { ...same, at, body: '[1]' });
});

test('what is sent while it connects waits until this page would hear it', async () => {
  const stream = new Stream();
  server = (url) => (url.pathname.endsWith('/events') ? stream.response : Response.json({ message: { id: 7 } }));
  client();
  await settled();
  const sent = rt.emit('message', 'hi');
  await settled();
  assert.equal(calls.length, 1);
  await stream.event({ event: 'connection', data: JSON.stringify(HELLO) });
  assert.deepEqual(await sent, { id: 7 });
});

test('an open stream gains and loses channels', async () => {
  await connected({ channels: ['a'] });
  await rt.subscribe('a');
  assert.equal(calls.length, 1, 'it has it');
  await rt.subscribe('b', 'a', 'c');
  await rt.unsubscribe('a', 'x');
  const asked = calls.slice(1).map(({ url, body }) => [url.pathname, JSON.parse(body)]);
  const { session } = HELLO;
  assert.deepEqual(asked, [
    ['/app/api/events/topics', { session, add: ['b', 'c'], remove: [] }],
    ['/app/api/events/topics', { session, add: [], remove: ['a'] }],
  ]);
});

test('a channel that is refused is not kept, and the others are', async () => {
  await connected({ channels: ['a'] });
  server = refusing(403);
  await assert.rejects(rt.subscribe('a', 'room:x'), { name: 'RtError', status: 403, code: 'no' });
  assert.deepEqual([...rt.channels], ['a']);
  server = () => Response.json({});
  await rt.subscribe('room:x');
  assert.equal(calls.length, 3);
  assert.deepEqual(JSON.parse(calls[2].body).add, ['room:x'], 'it is asked for anew');
});

// ---- changes of channels -------------------------------------------------------------------------

test('who asks for a channel that is being asked for is told its refusal too', async () => {
  await connected();
  let answer;
  server = () => new Promise((resolve) => (answer = () => resolve(refusing(403)())));
  const first = rt.subscribe('x');
  await settled();
  const both = Promise.allSettled([first, rt.subscribe('x')]);
  await settled();
  answer();
  assert.deepEqual((await both).map(({ reason }) => reason?.status), [403, 403]);
  assert.deepEqual([...rt.channels], []);
});

const topics = () => calls.filter(({ url }) => url.pathname.endsWith('/topics')).map(({ body }) => JSON.parse(body));

test('changes of channels go one after the other', async () => {
  const { streams } = await connected({ channels: ['a'] });
  const answers = [];
  server = () => new Promise((resolve) => answers.push(() => resolve(Response.json({}))));
  const left = rt.unsubscribe('a');
  await settled();
  const back = rt.subscribe('a');
  await settled();
  assert.equal(answers.length, 1, 'the second waits');
  answers[0]();
  await settled();
  answers[1]();
  await Promise.all([left, back]);
  assert.deepEqual(topics().map(({ add, remove }) => [add, remove]), [[[], ['a']], [['a'], []]]);
  await streams[0].event({ channel: 'a', data: '1', id: '00aa-1' });
  assert.equal(rt.lastEventId, '00aa-1');
});

test('a channel that is left and taken at once is not left', async () => {
  await connected({ channels: ['a'] });
  await Promise.all([rt.unsubscribe('a'), rt.subscribe('a'), rt.unsubscribe('a'), rt.subscribe('a')]);
  assert.deepEqual([topics(), [...rt.channels]], [[], ['a']]);
});

test('a subscription waits for the opening, and is told its refusal', async () => {
  const streams = [];
  const refused = refusing(403);
  server = (url, { body }) => {
    if (url.search.includes('bad') || body?.includes('bad')) return refused();
    if (!url.pathname.endsWith('/events')) return Response.json({});
    streams.push(new Stream());
    return streams.at(-1).response;
  };
  const told = client({ channels: ['a'] });
  const [good, bad] = [rt.subscribe('good'), rt.subscribe('bad')];
  const ends = [];
  good.then(() => ends.push('good'), () => ends.push('good is refused'));
  bad.then(() => ends.push('bad'), ({ code, status }) => ends.push(code, status));
  await clock.run(1);
  assert.deepEqual(ends, [], 'nothing is known yet');
  await streams[0].event({ event: 'connection', data: JSON.stringify(HELLO) });
  await clock.run(60);
  assert.deepEqual(ends.sort(), [403, 'good', 'no']);
  assert.deepEqual([[...rt.channels], rt.state], [['a', 'good'], 'open']);
  assert.ok(!told.some(([name]) => name === 'closed'));
});

test('a busy server gets it later', async () => {
  let stream;
  Math.random = () => 0.5;
  server = refusing(503);
  client({ attempts: Infinity });
  let done;
  const wanted = rt.subscribe('a').then(() => (done = true));
  await clock.run(5_000);
  assert.equal(done, undefined);
  server = () => (stream = new Stream()).response;
  await clock.run(3_000);
  await stream.event({ event: 'connection', data: JSON.stringify(HELLO) });
  await wanted;
  assert.equal(calls.at(-1).url.searchParams.get('channel'), 'a');
  server = refusing(429, { 'Retry-After': '2' });
  const other = rt.subscribe('b');
  await clock.run(1_000);
  server = () => Response.json({});
  await clock.run(2_500);
  await other;
  assert.deepEqual(topics().map(({ add }) => add), [['b'], ['b']]);
});

test('who is closed meanwhile has what it wants next time', async () => {
  server = unreachable;
  Math.random = () => 1;
  client({ attempts: Infinity });
  const wanted = rt.subscribe('a');
  await clock.run(10);
  rt.close();
  await wanted;
  assert.deepEqual([...rt.channels], ['a']);
  client({ attempts: 1 });
  const failed = assert.rejects(rt.subscribe('a'), { code: 'unreachable' });
  await clock.run(10_000);
  await failed;
});

test('a position is text, and any is older than those of another form', async () => {
  for (const since of [5, '00aa', '']) {
    const { streams } = await connected({ since }, ['message']);
    const heard = [];
    rt.on('message', (data) => heard.push(data));
    await streams[0].event({ data: '1', id: '00aa-1' });
    await streams[0].event({ data: '1', id: '00aa-1' });
    rt.close();
    assert.deepEqual(heard, [1], String(since));
  }
});

test('a channel may begin earlier', async () => {
  const { told, streams } = await connected({ channels: ['a'] }, ['message']);
  await streams[0].event({ id: '00aa-9', data: '9', channel: 'a' });
  await rt.subscribe('b', { since: '00aa-3' });
  assert.deepEqual(topics(), [{ session: HELLO.session, add: ['b'], remove: [], since: '00aa-3' }]);
  // What is older comes at the stream's own position.
  for (const data of ['4', '5']) await streams[0].event({ id: '00aa-9', data, channel: 'b' });
  await streams[0].event({ id: '00aa-9', data: '9', channel: 'a' });
  for (const id of [10, 10]) await streams[0].event({ id: `00aa-${id}`, data: `${id}`, channel: 'b' });
  assert.deepEqual(told.map(([, data]) => data), [9, 4, 5, 10]);
});

test('older messages whose position the stream had not told yet are all taken', async () => {
  const { told, streams } = await connected({ channels: ['a'] }, ['message']);
  await streams[0].event({ id: '00aa-9', data: '9', channel: 'a' });
  await rt.subscribe('b', { since: '00aa-3' });
  for (const data of ['4', '5', '6']) await streams[0].event({ id: '00aa-11', data, channel: 'b' });
  await streams[0].event({ id: '00aa-12', data: '12', channel: 'b' });
  assert.deepEqual(told.map(([, data]) => data), [9, 4, 5, 6, 12]);
});

/** The connection ends; the next one is open, and what it asked for: its channels, and its changes of them. */
async function again(streams) {
  await streams.at(-1).end();
  calls = [];
  await clock.run(1);
  await streams.at(-1).event({ event: 'connection', data: JSON.stringify({ ...HELLO, recovered: true }), id: '00aa-11' });
  await clock.run(1);
  const changes = topics().map(({ add, since }) => [add, since]);
  return [calls[0].url.searchParams.getAll('channel'), changes];
}

test('older messages that a lost connection took along are asked for again, and told once', async () => {
  const { told, streams } = await connected({ channels: ['a'] }, ['message']);
  await streams[0].event({ id: '00aa-9', data: '9', channel: 'a' });
  await rt.subscribe('b', { since: '00aa-3' });
  assert.deepEqual(await again(streams), [['a'], [[['b'], '00aa-3']]], 'none had come');
  for (const data of ['4', '5']) await streams[1].event({ id: '00aa-11', data, channel: 'b' });
  assert.deepEqual(await again(streams), [['a'], [[['b'], '00aa-3']]], 'some had');
  for (const data of ['4', '5', '6']) await streams[2].event({ id: '00aa-13', data, channel: 'b' });
  await streams[2].event({ data: 'null', channel: 'b' }); // volatile: it says nothing
  await streams[2].event({ event: 'ping', data: '{"type":"ping"}' }); // nor does this, without a position
  assert.deepEqual(await again(streams), [['a'], [[['b'], '00aa-3']]], 'more could have');
  for (const data of ['4', '5', '6']) await streams[3].event({ id: '00aa-13', data, channel: 'b' });
  await streams[3].event({ id: '00aa-14', data: '14', channel: 'a' });
  assert.deepEqual(await again(streams), [['a', 'b'], []], 'what is newer comes behind all of them');
  await streams[4].event({ id: '00aa-15', data: '15', channel: 'b' });
  assert.deepEqual(told.map(([, data]) => data), [9, 4, 5, 6, null, 14, 15]);
});

test('older messages have all come when a ping does, or a reset says what is gone', async () => {
  for (const [event, data] of Object.entries({ ping: '{"type":"ping"}', reset: '{"type":"reset"}' })) {
    const { told, streams } = await connected({}, ['message']);
    await rt.subscribe('b', { since: '00aa-3' });
    await streams[0].event({ id: '00aa-9', data: '4', channel: 'b' });
    await streams[0].event({ event, id: '00aa-9', data });
    assert.deepEqual(await again(streams), [['b'], []], event);
    for (const id of ['00aa-9', '00aa-12']) await streams[1].event({ id, data: `"${id}"`, channel: 'b' });
    assert.deepEqual(told.map(([, data]) => data), [4, '00aa-12']);
    rt.close();
  }
});

test('a reset that comes before the answer to the change counts', async () => {
  const { told, streams } = await connected({}, ['message']);
  const pass = server;
  let answer;
  server = (url) => (url.pathname.endsWith('/topics') ? new Promise((resolve) => (answer = resolve)) : pass(url));
  const wanted = rt.subscribe('b', { since: '00aa-3' });
  await settled();
  await streams[0].event({ event: 'reset', id: '00aa-9', data: '{"type":"reset"}' });
  await streams[0].event({ id: '00aa-12', data: '12', channel: 'b' });
  answer(Response.json({}));
  await wanted;
  server = pass;
  assert.deepEqual(await again(streams), [['b'], []]);
  await streams[1].event({ id: '00aa-13', data: '13', channel: 'b' });
  assert.deepEqual(told.map(([, data]) => data), [12, 13]);
});

test('one channel by itself', async () => {
  const { streams } = await connected();
  const news = rt.channel('news');
  const told = [];
  const remove = news.on('chat', (data) => told.push(data));
  const other = news.on('chat', (data) => told.push(data * 2));
  await clock.run(1);
  assert.deepEqual(topics().map(({ add }) => add), [['news']]);
  for (const channel of ['news', 'other']) await streams[0].event({ event: 'chat', channel, data: '1' });
  assert.deepEqual(told, [1, 2]);
  remove();
  remove();
  await clock.run(1);
  assert.deepEqual([...rt.channels], ['news']);
  other();
  await clock.run(1);
  assert.deepEqual(topics().at(-1).remove, ['news'], 'with its last listener');
  await rt.subscribe('news');
  news.on('chat', () => {})();
  assert.deepEqual([...rt.channels], ['news'], 'it was subscribed to otherwise');
  server = () => Response.json({ message: { id: 8 } });
  assert.deepEqual(await news.publish('chat', 'hi'), { id: 8 });
  assert.equal(calls.at(-1).url.search, '?channel=news&event=chat');
  server = () => Response.json([{ id: 7 }]);
  assert.deepEqual(await news.history({ limit: 10, before: 8 }), [{ id: 7 }]);
  assert.equal(calls.at(-1).url.href, 'http://server.test/app/api/messages?channel=news&limit=10&before=8');
  assert.deepEqual(await news.presence(), [{ id: 7 }]);
  assert.equal(calls.at(-1).url.href, 'http://server.test/app/api/presence?channel=news');
});

// ---- for developers ------------------------------------------------------------------------------

test('a listener for once may go before, too', async () => {
  await connected();
  const seen = [];
  const hear = (data) => seen.push(data);
  rt.once('a', hear);
  rt.off('a', hear);
  rt.pass({ name: 'a', data: 0 });
  assert.deepEqual(seen, []);
  rt.once('a', hear)();
  const remove = rt.on('b', hear);
  rt.pass({ name: 'a', data: 1 });
  rt.pass({ name: 'b', data: 2 });
  remove();
  rt.pass({ name: 'b', data: 3 });
  assert.deepEqual(seen, [2]);
});

test('what is sent while it connects leaves nothing behind', async () => {
  const { streams } = await connected();
  rt.close();
  rt.retryNow();
  let listeners = 0;
  const on = rt.on.bind(rt);
  rt.on = (...args) => (listeners += 1) && on(...args);
  rt.once = rt.on;
  const sent = rt.emit('a', 1);
  await clock.run(1);
  await streams[1].event({ event: 'connection', data: JSON.stringify(HELLO) });
  assert.deepEqual([await sent, listeners], [{ id: 7 }, 0]);
});

test('an address may lack its last slash', async () => {
  server = unreachable;
  for (const address of ['http://server.test/base', 'http://server.test/base/', new URL('http://server.test/base?x#y')]) {
    rt = connect(address, { shared: false });
    await clock.run(0);
    assert.equal(calls.at(-1).url.href, 'http://server.test/base/api/events?labels=1');
    rt.close();
  }
  rt = connect('/there', { shared: false });
  await clock.run(0);
  assert.equal(calls.at(-1).url.href, 'http://page.test/there/api/events?labels=1');
});

test('without an address it says what to give', () => {
  for (const url of [undefined, null, {}, '', 'http://', 'localhost:8000', 'localhost:8000/base', 'ws://server.test', 'mailto:a@b']) {
    assert.throws(() => connect(url), { name: 'RtError', code: 'no_address', message: /connect\('https:/ });
  }
});

test('ready is when it is open, or why it is not', async () => {
  const { streams } = await connected();
  assert.equal(await rt.ready, rt);
  rt.close();
  await assert.rejects(rt.ready, { code: 'closed' });
  rt.retryNow();
  const { ready } = rt;
  await clock.run(1);
  await streams[1].event({ event: 'connection', data: JSON.stringify(HELLO) });
  assert.equal(await ready, rt);
  server = refusing(403);
  client();
  const refused = assert.rejects(rt.ready, { name: 'RtError', code: 'no', status: 403 });
  await clock.run(1);
  await refused;
});

test('it says in words what it does', async () => {
  const words = [];
  const { streams } = await connected({ token: 'secret', channels: ['a'], debug: (text) => words.push(text) });
  await streams[0].end();
  await clock.run(0);
  const text = words.join('\n');
  for (const part of ['connecting', 'http://server.test/app/ for a from now', 'open', 'reconnecting', 'the server ended']) {
    assert.ok(text.includes(part), `${part} in ${text}`);
  }
  assert.ok(!text.includes('secret'));
});

// ---- tokens --------------------------------------------------------------------------------------

const jwt = (seconds) => `x.${btoa(JSON.stringify({ sub: 'ada', exp: Date.now() / 1000 + seconds }))}.y`;
const bearers = () => calls.map(({ headers }) => headers.Authorization?.slice(7));

test('a token is asked for first, and after a 401', async () => {
  const tokens = ['one', 'two'];
  server = (url, { headers }) =>
    headers.Authorization === 'Bearer two' ? Response.json({ message: { id: 1 } }) : refusing(401)();
  client({ getToken: async () => tokens.shift() ?? 'none', attempts: 0 });
  await clock.run(1);
  assert.deepEqual(bearers(), ['one', 'two']);
  calls = [];
  rt.retryNow();
  server = refusing(401);
  await clock.run(60_000);
  assert.deepEqual([bearers(), rt.state], [['two', 'none'], 'closed'], 'once for each call');
});

test('a token that ends is renewed before', async () => {
  let asked = 0;
  const { told, streams } = await connected({
    getToken: () => {
      asked += 1;
      return jwt(120);
    },
  });
  await clock.run(40_000);
  await streams[0].event({ id: '00aa-4', data: '1' });
  assert.equal(asked, 1);
  await clock.run(40_000);
  await streams[0].event({ event: 'ping', data: '{"type":"ping"}' });
  await clock.run(9_500);
  assert.equal(asked, 1);
  await clock.run(1_500);
  assert.deepEqual([asked, streams.length, calls.at(-1).headers['Last-Event-ID']], [2, 2, '00aa-4']);
  assert.deepEqual(told.at(-1)[1].attempt, 0, 'it is no failure');
});

test('a getToken that fails is tried again', async () => {
  let asked = 0;
  server = () => new Stream().response;
  const told = client({
    getToken() {
      asked += 1;
      if (asked < 3) throw new Error('not now');
      return 'a';
    },
  });
  await clock.run(100);
  assert.deepEqual(told.slice(1).map(([name]) => name), ['reconnecting', 'reconnecting']);
  assert.deepEqual(bearers(), ['a']);
});

// ---- calls with limits ---------------------------------------------------------------------------

test('a call has a limit of time, or a signal', async () => {
  await connected();
  server = () => new Promise(() => {});
  const late = assert.rejects(rt.emit('a', 1, { timeout: 3_000 }), { name: 'RtError', code: 'timeout' });
  await clock.run(3_000);
  await late;
  const end = new AbortController();
  const ended = assert.rejects(rt.emit('a', 1, { signal: end.signal }), { message: 'enough' });
  await settled();
  end.abort(new Error('enough'));
  await ended;
  assert.ok(calls.at(-1).signal.aborted);
  await assert.rejects(rt.emit('a', 1, { signal: end.signal }), { message: 'enough' });
  rt.close();
  client();
  const waits = assert.rejects(rt.emit('a', 1, { timeout: 1_000 }), { code: 'timeout' });
  await clock.run(1_000);
  await waits;
});

test('a call that is given up between its tries leaves no timer', async () => {
  await connected();
  server = refusing(503, { 'Retry-After': '3600' });
  const timers = clock.timers;
  const end = new AbortController();
  const ended = assert.rejects(rt.emit('a', 1, { signal: end.signal, retries: 2 }), { message: 'enough' });
  await clock.run(10);
  assert.equal(clock.timers, timers + 1);
  end.abort(new Error('enough'));
  await ended;
  assert.equal(clock.timers, timers);
});

test('a call whose answer is lost is made again by the same key', async () => {
  await connected();
  calls = [];
  const answers = [unreachable, refusing(503, { 'Retry-After': '2' }), () => Response.json({ message: { id: 9 } })];
  server = () => answers.shift()();
  const stored = rt.emit('a', 1, { retries: 3 });
  await clock.run(5_000);
  assert.deepEqual(await stored, { id: 9 });
  const keys = calls.map(({ headers }) => headers['Idempotency-Key']);
  assert.equal(keys.length, 3);
  assert.ok(keys[0] && new Set(keys).size === 1);
  server = refusing(422);
  await assert.rejects(rt.emit('a', 1, { retries: 3 }), { status: 422 });
  server = unreachable;
  const failed = assert.rejects(rt.emit('a', 1, { retries: 2 }), { status: 0 });
  await clock.run(60_000);
  await failed;
  const sent = calls.filter(({ url }) => url.pathname.endsWith('/broadcast'));
  assert.equal(sent.length, 3 + 1 + 3);
  server = () => Response.json({ message: { id: 10 } });
  await rt.emit('a', 1);
  assert.equal(calls.at(-1).headers['Idempotency-Key'], undefined, 'it costs a row');
});

test('an error says whether asking again can help', () => {
  const final = [0, 400, 401, 404, 408, 422, 429, 499, 500, 503].filter((status) => new RtError('', { status }).final);
  assert.deepEqual(final, [400, 401, 404, 422, 499]);
  const error = new RtError('words');
  assert.deepEqual([error.message, error.status, error.code, error.retryAfter], ['words', 0, 'unreachable', 0]);
});

test('an answer of a proxy that is no problem of ours is told by its status', async () => {
  server = () => new Response('<h1>Bad Gateway</h1>', { status: 502 });
  const told = client({ attempts: 0 });
  await clock.run(0);
  assert.deepEqual(told.at(-1)[1].error, { message: 'HTTP 502', status: 502, code: 'http_502' });
});
