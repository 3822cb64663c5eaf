/** The dashboard's figures and lists (`static/js/admin/stream.js`, `ui.js`). */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Clock, fromDisk, put } from './browser.mjs';

// Before the modules are loaded, whose timers would keep the process alive.
new Clock();
const { setLanguage } = await import('../../static/js/i18n.js');
const { closeStream, fill, history, minutes, recent, stats, take } = await import('../../static/js/admin/stream.js');
put('matchMedia', () => ({ addEventListener() {} }));
const { warnings } = await import('../../static/js/admin/warnings.js');
const { labels, translated } = await import('../../static/js/admin/texts.js');
const { matching } = await import('../../static/js/admin/palette.js');
const { nearest, zoomed } = await import('../../static/js/admin/charts.js');
const { brief, effect, formatAgo, formatBytes, pages, resource, serverNow, setClock, sorted } = await import('../../static/js/admin/ui.js');

const START = Date.parse('2026-05-01T12:00:00Z');
/** The statistics of a second, so many after the start. */
const second = (at, more = {}) => ({
  timestamp: new Date(START + at * 1_000).toISOString(),
  messagesSent: 0,
  deliveries: 0,
  transports: { sse: 3, websocket: 2, 'socket.io': 1 },
  publishLatencyMs: { p50: 1.5, p99: 7.25 },
  memoryBytes: 50_000_000,
  cpuPercent: 12.5,
  ...more,
});
const rates = () => recent.value.map(({ values }) => [values.messages, values.deliveries]);

beforeEach(async () => {
  put('fetch', fromDisk);
  await setLanguage('en', false);
  closeStream();
});

/** Some versions of the locale data write a narrow space where others write a plain one. */
const plain = (text) => text.replace(/\s/gu, ' ');

// ---- figures -------------------------------------------------------------------------------------

test('a second of statistics is a moment of the charts', () => {
  take(second(0));
  assert.equal(stats.value.memoryBytes, 50_000_000);
  const values = { sse: 3, websocket: 2, socketio: 1, p50: 1.5, p99: 7.25, memory: 50_000_000, cpu: 12.5 };
  assert.deepEqual(recent.value, [{ at: START / 1_000, values: { ...values, messages: 0, deliveries: 0 } }]);
});

test('what a server does not tell is nothing', () => {
  take({ timestamp: second(0).timestamp });
  const { values } = recent.value[0];
  assert.ok(Object.values(values).every((value) => value === 0), JSON.stringify(values));
});

test('rates are of the time between two statistics', () => {
  take(second(0, { messagesSent: 100, deliveries: 1_000 }));
  take(second(1, { messagesSent: 300, deliveries: 1_500 }));
  take(second(5, { messagesSent: 500, deliveries: 1_500 }));
  assert.deepEqual(rates(), [[0, 0], [200, 500], [50, 0]]);
});

test('the counters of a server that begins anew are no rate below nothing', () => {
  take(second(0, { messagesSent: 1_000, deliveries: 1_000 }));
  take(second(1, { messagesSent: 10, deliveries: 2_000 }));
  take(second(2, { messagesSent: 15, deliveries: 2_000 }));
  assert.deepEqual(rates(), [[0, 0], [0, 1_000], [5, 0]]);
});

test('two statistics of one moment give no rate', () => {
  take(second(0));
  take(second(0, { messagesSent: 100 }));
  assert.deepEqual(rates(), [[0, 0], [0, 0]]);
});

test('five minutes are kept, the oldest first, and whoever draws is told once for each', () => {
  let draws = 0;
  const stop = effect(() => void [stats.value, recent.value, (draws += 1)]);
  for (let at = 0; at < 1_000; at += 1) take(second(at));
  stop();
  assert.equal(recent.value.length, 300);
  assert.deepEqual([recent.value[0].at, recent.value.at(-1).at], [START / 1_000 + 700, START / 1_000 + 999]);
  assert.equal(draws, 1_001);
});

test('what was told is forgotten with the stream', () => {
  take(second(0));
  closeStream();
  assert.deepEqual([stats.value, recent.value], [undefined, []]);
});

test('the minutes of several nodes add up, and of latencies the worst counts', async () => {
  const row = (minute, sse, p99, more = {}) => ({
    minute: `2026-05-01T12:0${minute}:00Z`,
    transports: { sse },
    publishLatencyMs: { p50: 1, p99 },
    messagesPerSecond: 10,
    deliveriesPerSecond: 100,
    memoryBytes: 5,
    cpuPercent: 20,
    ...more,
  });
  let asked;
  put('fetch', async (url) => {
    asked = url.href;
    return Response.json([row(0, 3, 5), row(0, 4, 9, { cpuPercent: 30 }), row(1, 5, 2)]);
  });
  minutes.value = 1440;
  await history.refresh();
  assert.ok(asked.endsWith('api/stats/history?minutes=1440'));
  const [first, next] = history.state.value.data;
  assert.deepEqual([first.at, next.at, history.state.value.data.length], [START / 1_000, START / 1_000 + 60, 2]);
  const sum = { sse: 7, websocket: 0, socketio: 0, p50: 1, p99: 9, memory: 10, cpu: 50, messages: 20, deliveries: 200 };
  assert.deepEqual(first.values, sum);
  assert.equal(next.values.sse, 5);
});

test('where no minute was stored for a while no line leads on', async () => {
  const row = (minute) => ({ minute: `2026-05-01T12:${minute}:00Z`, messagesPerSecond: 1, deliveriesPerSecond: 1 });
  put('fetch', async () => Response.json([row('00'), row('01'), row('02'), row('30')]));
  await history.refresh();
  const rows = history.state.value.data;
  assert.deepEqual(rows.map(({ at }) => at / 60 - START / 60_000), [0, 1, 2, 3, 30]);
  assert.deepEqual(rows[3].values, {});
});

test('what the server kept fills the charts, and what the stream told since stays', () => {
  const of = (node, at, count) => second(at, { messagesSent: count, nodes: [{ node, connections: 1 }] });
  const minutes = Array.from({ length: 300 }, (_, at) => of('one', at, at * 10));
  take(of('one', 299.3, 2_990)); // the second that both have
  take(of('one', 300.3, 3_003));
  fill({ recent: minutes, nodes: minutes[0].nodes });
  assert.equal(recent.value.length, 300);
  assert.deepEqual([recent.value[0].at, recent.value.at(-1).at], [START / 1_000 + 1, START / 1_000 + 300.3]);
  assert.ok(rates().slice(1).every(([messages]) => Math.abs(messages - 10) < 0.1), JSON.stringify(rates().slice(-3)));
  fill({ recent: [of('two', 299, 9e6)], nodes: of('two', 0, 0).nodes });
  assert.equal(rates().at(-1)[0] < 11 && recent.value.length, 300, 'another node counts otherwise');
  take(of('two', 301.3, 9e6));
  assert.deepEqual(rates().at(-1), [0, 0]);
  closeStream();
  fill({ nodes: [] });
  assert.deepEqual(recent.value, []);
  fill({ recent: minutes, nodes: minutes[0].nodes });
  take(of('one', 300, 3_000));
  assert.deepEqual([recent.value.length, rates().at(-1)], [300, [10, 0]]);
});

test('what the rules of the server find is told, and nothing where all is well', async () => {
  const told = (...found) => warnings({ maxConnections: 100, errors: 5, warnings: found });
  assert.deepEqual([told(), warnings({})], [[], []]);
  const kinds = [{ kind: 'connections', value: 0.9, node: 'two' }, { kind: 'disk', value: 9e8 }, { kind: 'wal', value: 3e8 }, { kind: 'node', node: 'one' }];
  assert.deepEqual(told(...kinds).map(({ id }) => id), ['full two', 'disk', 'wal', 'gone one']);
  assert.match(told(kinds[0])[0].text, /90% of the 100 connections of two/);
  const [errors] = told({ kind: 'errors', value: 3 });
  assert.match(errors.text, /3 errors/);
  assert.equal(errors.id, 'errors 5', 'another one is told again');
  assert.deepEqual(told({ kind: 'of a newer server' }), []);
});

// ---- charts --------------------------------------------------------------------------------------

test('the nearest moment is told, without a cursor the newest', () => {
  const samples = [10, 20, 30, 70].map((at) => ({ at, values: {} }));
  assert.deepEqual([undefined, 0, 14, 16, 20, 49, 51, 900].map((at) => nearest(samples, at)), [3, 0, 0, 1, 1, 2, 3, 3]);
  assert.equal(nearest([], undefined), -1);
});

test('a zoom stays within the whole, keeps what it is around, and has an end', () => {
  const whole = { from: 0, to: 1_000 };
  assert.deepEqual(zoomed(whole, 0.5, 500, whole), { from: 250, to: 750 });
  assert.deepEqual(zoomed({ from: 250, to: 750 }, 0.5, 250, whole), { from: 250, to: 500 });
  assert.deepEqual(zoomed({ from: 0, to: 100 }, 2, 50, whole), { from: 0, to: 200 });
  assert.deepEqual(zoomed({ from: 900, to: 1_000 }, 4, 990, whole), { from: 600, to: 1_000 });
  assert.deepEqual(zoomed({ from: 500, to: 504 }, 0.5, 502, whole), { from: 497, to: 507 });
  assert.equal(zoomed({ from: 250, to: 750 }, 2, 500, whole), undefined, 'all of it is no zoom');
});

// ---- asking the server ---------------------------------------------------------------------------

test('of two questions the answer to the last one counts', async () => {
  const answers = [];
  const list = resource(() => new Promise((resolve) => answers.push(resolve)));
  const [first, second] = [list.refresh(), list.refresh()];
  answers[1]('new');
  await second;
  answers[0]('old');
  await first;
  assert.deepEqual(list.state.value, { data: 'new', error: undefined, busy: false });
});

test('an attempt that fails leaves what was there, and one that helps takes the error away', async () => {
  let answer = async () => 1;
  const list = resource(() => answer());
  await list.refresh();
  const error = new Error('no');
  answer = () => Promise.reject(error);
  const asking = list.refresh();
  assert.deepEqual(list.state.value, { data: 1, error: undefined, busy: true });
  await asking;
  assert.deepEqual(list.state.value, { data: 1, error, busy: false });
  answer = async () => 2;
  await list.refresh();
  assert.deepEqual(list.state.value, { data: 2, error: undefined, busy: false });
});

test('an answer that comes after it was forgotten is dropped', async () => {
  let answer;
  const list = resource(() => new Promise((resolve) => (answer = resolve)));
  const asking = list.refresh();
  list.forget();
  answer('late');
  await asking;
  assert.deepEqual(list.state.value, { data: undefined, error: undefined, busy: false });
});

/** A list of pages of two. */
function paged(count, shape) {
  const asked = [];
  const load = async (path) => {
    asked.push(path);
    const from = Number(path.split('=')[1] ?? 0);
    const rows = [from, from + 1].map((id) => ({ id, kind: id % 2 ? 'odd' : 'even' }));
    return { rows, total: count, next: from + 2 < count ? `list?from=${from + 2}` : '' };
  };
  return { list: pages(() => 'list', load, shape), asked };
}

test('a list goes forward and back by its pages, and to the first', async () => {
  const { list, asked } = paged(6);
  const where = () => [list.state.value.data.page, list.state.value.data.rows[0].id, list.isFirst()];
  await list.first();
  assert.deepEqual(where(), [1, 0, true]);
  await list.forward();
  await list.forward();
  assert.deepEqual(where(), [3, 4, false]);
  await list.forward();
  assert.deepEqual(where(), [3, 4, false], 'there is no other');
  await list.back();
  assert.deepEqual(where(), [2, 2, false]);
  await list.first();
  assert.deepEqual(where(), [1, 0, true]);
  await list.back();
  assert.deepEqual(where(), [1, 0, true]);
  const from = asked.map((path) => path.split('=')[1] ?? '0');
  assert.deepEqual(from, ['0', '2', '4', '4', '2', '0', '0']);
});

test('pressed twice before the page came, it goes forward once', async () => {
  const { list } = paged(10);
  await list.first();
  await Promise.all([list.forward(), list.forward()]);
  assert.equal(list.state.value.data.page, 2);
});

test('a row that stays keeps its key, a new one takes that of one that went and looks alike', async () => {
  let rows = [];
  const list = pages(() => 'list', async () => ({ rows, total: rows.length, next: '' }), ({ kind }) => kind);
  const keys = async (...ids) => {
    rows = ids.map((id) => ({ id, kind: id % 2 ? 'odd' : 'even' }));
    await list.refresh();
    return list.state.value.data.rows.map(({ key }) => key);
  };
  const [one, two, three] = await keys(1, 2, 3);
  assert.deepEqual(await keys(5, 1, 2), [three, one, two]);
  const [other, ...same] = await keys(4, 5, 1);
  assert.deepEqual([other, same], [two, [three, one]]);
  const [grown] = await keys(6, 4, 5, 1);
  assert.ok(![one, two, three].includes(grown) && grown.startsWith('even:'));
  assert.deepEqual(await keys(7, 9), [three, one], 'of those that went the first is another kind');
});

test('an entry of the log is said in the reader’s language, and the server’s explanation as it is', () => {
  const all = { 'Signed in': 'Oturum açıldı', 'Refused: {}': 'Reddedildi: {}', 'The job {} failed': '{} görevi başarısız', '{} more of this kind': 'Bundan {} tane daha' };
  all['The saved value of {} is not valid'] = '{} ayarı geçersiz';
  const said = (message) => Object.values(translated(message, all)).filter((text) => text !== undefined);
  assert.deepEqual(said('Signed in'), ['Oturum açıldı']);
  assert.deepEqual(said('Refused: too many: wait'), ['Reddedildi: ', 'too many: wait']);
  assert.deepEqual(said('12 more of this kind'), ['Bundan 12 tane daha']);
  assert.deepEqual(said('The saved value of rate_limit is not valid'), ['rate_limit ayarı geçersiz']);
  assert.deepEqual(said('Signed in: oops'), ['Oturum açıldı: ', 'oops']);
  assert.deepEqual(said('Something else: new'), ['Something else: new']);
  assert.deepEqual(said('$& of this kind'), ['$& of this kind']);
  assert.deepEqual(said('The saved value of $& is not valid'), ['$& ayarı geçersiz']);
  assert.deepEqual(translated('Signed in', {}), { rest: 'Signed in' });
});

test('texts that a proxy spoilt are said in the server’s words', async () => {
  put('fetch', async () => new Response('<html>', { headers: { 'Content-Type': 'text/html' } }));
  await labels.load();
  assert.deepEqual(labels.found.value, {});
});

test('the palette finds by words, whatever letters a keyboard has, what begins so first', () => {
  const all = ['Change password', 'Password of a room', 'İstemci', 'Istakoz'].map((text, at) => ({ text, kind: 'Action', also: `key_${at}` }));
  const said = (text) => matching(all, text).map((command) => command.text);
  assert.equal(said('').length, 4);
  assert.deepEqual(said('passw'), ['Password of a room', 'Change password']);
  assert.deepEqual(said('  room   PASS '), ['Password of a room']);
  assert.deepEqual(said('key_2'), ['İstemci']);
  for (const text of ['is', 'ıs', 'IS', 'İs']) assert.deepEqual(said(text), ['İstemci', 'Istakoz'], text);
  assert.deepEqual(said('nothing'), []);
});

// ---- values --------------------------------------------------------------------------------------

test('bytes are told in the unit that fits', async () => {
  const said = (...all) => all.map((bytes) => plain(formatBytes(bytes)));
  assert.deepEqual(said(0, 0.4, 999, 1_000, 999_499), ['0 bytes', '0 bytes', '999 bytes', '1 kB', '999.5 kB']);
  assert.deepEqual(said(1e6, 1_250_000, 2.5e9, 3e12, 5e15), ['1 MB', '1.3 MB', '2.5 GB', '3 TB', '5,000 TB']);
  await setLanguage('tr', false);
  assert.deepEqual(said(1_250_000), ['1,3 MB']);
});

test('a moment is told by the clock of the server, which wrote it', () => {
  for (const ahead of [3 * 3_600_000, -3 * 3_600_000, 200]) {
    setClock(Date.now() + ahead);
    assert.equal(plain(formatAgo(Date.now() + ahead - 90_000, serverNow())), '1 min. ago', String(ahead));
  }
});

test('a moment is told by how far away it is, and after a week by its date', async () => {
  const said = (...all) => all.map((seconds) => plain(formatAgo(START + seconds * 1_000, START)));
  assert.deepEqual(said(-3, 20, -60, -3_599, 7_200), ['now', 'now', '1 min. ago', '59 min. ago', 'in 2 hr.'].map((text) => text.replace('.', '.')));
  assert.deepEqual(said(-86_400, -6 * 86_400), ['yesterday', '6 days ago']);
  assert.match(said(-8 * 86_400)[0], /2026/);
  await setLanguage('tr', false);
  assert.deepEqual(said(-30, -180), ['şimdi', '3 dk. önce'].map(plain));
});

test('rows are sorted as their language sorts, by figures, and who has none is last', async () => {
  await setLanguage('tr', false);
  const names = (rows) => rows.map(({ name }) => name).join('');
  const rows = ['ş', null, 's', 'ı', 'i', 'a10', 'a9'].map((name) => ({ name }));
  assert.equal(names(sorted(rows, ({ name }) => name, false)), 'a9a10ıisşnull'.replace('null', ''));
  assert.equal(names(sorted(rows, ({ name }) => name, true)), 'şsiıa10a9');
  assert.deepEqual(sorted([{ n: 10 }, {}, { n: 9 }], ({ n }) => n, true), [{ n: 10 }, { n: 9 }, {}]);
});

test('a value in a line is cut where it is long', () => {
  assert.deepEqual([brief('text'), brief({ a: [1] }), brief(5), brief(null)], ['text', '{"a":[1]}', '5', 'null']);
  assert.deepEqual([brief('abcdef', 3), brief('abc', 3)], ['abc…', 'abc']);
  assert.equal(brief('x'.repeat(500)).length, 161);
});
