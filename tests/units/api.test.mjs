/** Calls to the server and their errors (`static/js/api.js`). */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { put } from './browser.mjs';
import { api, ApiError, apiPage, errorFrom, ROOT, unreachable } from '../../static/js/api.js';

let asked = [];
let answer = () => Response.json({});
beforeEach(() => {
  asked = [];
  put('fetch', async (url, request) => {
    asked.push({ path: url.href.slice(ROOT.href.length), ...request });
    return answer();
  });
});

const JSON_TYPE = { 'Content-Type': 'application/json' };

test('every call starts from the folder that holds static', () => {
  assert.ok(ROOT.href.endsWith('/') && !ROOT.href.includes('static'));
});

test('a call says what it takes, and a body what it is', async () => {
  answer = () => Response.json([1]);
  assert.deepEqual(await api('GET', 'api/stats'), [1]);
  await api('POST', 'api/broadcast', { a: 1 }, { headers: { 'X-Session': 's' }, keepalive: true });
  await api('POST', 'api/broadcast', null);
  const same = { credentials: 'same-origin', cache: 'no-store' };
  const accept = { Accept: 'application/json' };
  assert.deepEqual(asked, [
    { path: 'api/stats', method: 'GET', ...same, headers: accept },
    {
      path: 'api/broadcast',
      method: 'POST',
      ...same,
      keepalive: true,
      headers: { ...accept, 'X-Session': 's', ...JSON_TYPE },
      body: '{"a":1}',
    },
    { path: 'api/broadcast', method: 'POST', ...same, headers: { ...accept, ...JSON_TYPE }, body: 'null' },
  ]);
});

test('an answer without JSON is undefined', async () => {
  answer = () => new Response(null, { status: 204 });
  assert.equal(await api('DELETE', 'api/logs'), undefined);
  answer = () => new Response('ok', { headers: { 'Content-Type': 'text/plain' } });
  assert.equal(await api('GET', 'healthz'), undefined);
});

test('a refusal is an error with all that the server says', async () => {
  const problem = {
    code: 'room_full',
    title: 'The room is full',
    detail: 'Eight people are in it.',
    errors: [{ field: 'name', message: 'too long' }],
  };
  const headers = { 'Content-Type': 'application/problem+json', 'Retry-After': '7' };
  answer = () => new Response(JSON.stringify(problem), { status: 409, headers });
  const error = await api('POST', 'api/video/rooms').catch((caught) => caught);
  assert.ok(error instanceof ApiError);
  assert.deepEqual({ ...error }, { name: 'ApiError', status: 409, retryAfter: 7, ...problem });
  assert.equal(error.message, problem.detail);
});

test("a proxy's answer is told by its status", async () => {
  const json = 'application/json';
  for (const [body, type] of [['<h1>Bad</h1>', 'text/html'], ['{broken', json], ['null', json], ['', '']]) {
    const headers = type ? { 'Content-Type': type } : {};
    const { status, code, title, detail, errors } = await errorFrom(new Response(body, { status: 502, headers }));
    assert.deepEqual([status, code, title, detail, errors], [502, 'http_502', 'HTTP 502', '', []], body);
  }
  const { title } = await errorFrom(new Response('', { status: 502, statusText: 'Bad Gateway' }));
  assert.equal(title, 'Bad Gateway');
});

test('a wait is told in seconds or as a date', async () => {
  const wait = async (value) => {
    const headers = value === undefined ? {} : { 'Retry-After': value };
    return (await errorFrom(new Response('', { status: 429, headers }))).retryAfter;
  };
  Date.now = () => Date.parse('2026-05-01T12:00:00Z');
  assert.deepEqual([await wait('125'), await wait('0'), await wait(undefined)], [125, 0, undefined]);
  assert.equal(await wait('Fri, 01 May 2026 12:01:30 GMT'), 90);
  assert.equal(await wait('Fri, 01 May 2026 11:00:00 GMT'), 0, 'it is over');
  assert.equal(await wait('soon'), undefined);
});

test('a server that is not reached has the status 0', async () => {
  answer = () => Promise.reject(new TypeError('Failed to fetch'));
  const error = await api('GET', 'api/stats').catch((caught) => caught);
  assert.ok(error instanceof ApiError);
  assert.deepEqual([error.status, error.code, error.detail], [0, 'unreachable', 'TypeError: Failed to fetch']);
  assert.equal(unreachable('why').detail, 'why');
});

test('a page of a list knows how many there are and where the next is', async () => {
  const rows = [{ id: 1 }, { id: 2 }];
  const page = (headers) => {
    answer = () => Response.json(rows, { headers });
    return apiPage('api/logs?limit=2&q=a');
  };
  const link = '<?limit=2&q=a&before=1>; rel="next"';
  assert.deepEqual(await page({ 'X-Total-Count': '57', Link: link }), {
    rows,
    total: 57,
    next: 'api/logs?limit=2&q=a&before=1',
  });
  assert.deepEqual(await page({}), { rows, total: 2, next: '' });
  assert.equal((await page({ Link: '<?x>; rel="prev"' })).next, '');
});
