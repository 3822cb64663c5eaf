/** The client library where there is no page: what Node has, and nothing that a browser adds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

test('it is loaded where there is no page, and connects to a whole address', async () => {
  const { connect } = await import('../../static/js/rt.js');
  const asked = [];
  const hello = 'event: connection\ndata: {"clientId":"me","session":"s","pingInterval":20}\n\n';
  const fetch = async (url, { headers, signal }) => {
    asked.push([url.href, headers['X-Session']]);
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(hello));
        signal.addEventListener('abort', () => controller.error(signal.reason));
      },
    });
    return new Response(body);
  };
  const rt = await connect('http://server.test', { fetch, channels: ['a'], shared: true }).ready;
  assert.deepEqual([rt.state, rt.clientId, rt.session], ['open', 'me', 's']);
  assert.deepEqual(asked, [['http://server.test/api/events?labels=1&channel=a', undefined]]);
  rt.close();
});

test('there it wants a whole address', async () => {
  const { connect } = await import('../../static/js/rt.js');
  for (const url of [undefined, {}, '/', 'server.test']) assert.throws(() => connect(url), { code: 'no_address' });
});

test('closed, it keeps nothing alive', async () => {
  const { connect } = await import('../../static/js/rt.js');
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = timers();
  const rt = connect('http://server.test', { fetch: () => Promise.reject(new TypeError('away')), attempts: Infinity });
  await new Promise((resolve) => rt.on('reconnecting', ({ delay }) => delay > 100 && resolve()));
  rt.close();
  const claims = btoa(JSON.stringify({ exp: Date.now() / 1000 + 3600 }));
  const fetch = async () =>
    new Response('event: connection\ndata: {"clientId":"me"}\n\n' + 'event: disconnect\ndata: {}\n\n');
  const other = connect('http://server.test', { fetch, getToken: () => `x.${claims}.y` });
  await new Promise((resolve) => other.on('closed', resolve));
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(timers(), before);
});

test('a listener that fails there is not the others', async (t) => {
  const { connect } = await import('../../static/js/rt.js');
  const rt = connect('http://server.test');
  rt.close();
  const said = t.mock.method(console, 'error', () => {});
  const seen = [];
  rt.on('a', () => assert.fail('of its own'));
  rt.on('a', (data) => seen.push(data));
  rt.pass({ name: 'a', data: 1 });
  assert.deepEqual([seen, said.mock.callCount()], [[1], 1]);
});
