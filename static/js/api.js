/** Calls to the server's HTTP API, and its errors (RFC 9457 problem details) as one class. */

/** @typedef {{ field: string, message: string }} FieldError */
/**
 * @typedef {object} Problem
 * @property {number} status the HTTP status; 0 when the server was not reached
 * @property {string} code the server's stable name for it, such as `room_full`
 * @property {string} title
 * @property {string} [detail]
 * @property {FieldError[]} [errors] what is wrong with which field
 * @property {number} [retryAfter] seconds
 */

/**
 * Where the application lives: the folder that holds `static/`. Every call and link starts from it,
 * so a page works at any depth and under any path of a proxy.
 */
export const ROOT = new URL(import.meta.url.replace(/^(.*\/)static\/.*$/, '$1'));

/** A call that failed. */
export class ApiError extends Error {
  /** @param {Problem} problem */
  constructor({ status, code, title, detail = '', errors = [], retryAfter }) {
    super(detail || title);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.title = title;
    this.detail = detail;
    this.errors = errors;
    this.retryAfter = retryAfter;
  }
}

/**
 * Call the API: `await api('POST', 'api/broadcast', { message: 'Hello!' })`.
 * @param {string} method
 * @param {string} path relative to the application, such as `api/stats`
 * @param {unknown} [body] any JSON value
 * @param {RequestInit} [more]
 * @returns {Promise<any>} the answer's JSON; undefined where it has none
 * @throws {ApiError}
 */
export async function api(method, path, body, more = {}) {
  const response = await ask(method, path, body, more);
  return isJson(response) ? response.json() : undefined;
}

/**
 * A page of a list.
 * @param {string} path
 * @returns {Promise<{ rows: any[], total: number, next: string }>} `next` is the path of the next page, or empty
 * @throws {ApiError}
 */
export async function apiPage(path) {
  const response = await ask('GET', path);
  const rows = await response.json();
  const total = Number(response.headers.get('X-Total-Count') ?? rows.length);
  const [, link] = /<([^>]*)>; rel="next"/.exec(response.headers.get('Link') ?? '') ?? [];
  return { rows, total, next: link ? path.replace(/\?.*$/, '') + link : '' };
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {RequestInit} [more]
 */
async function ask(method, path, body, more = {}) {
  /** @type {RequestInit} */
  const request = {
    method,
    credentials: 'same-origin',
    cache: 'no-store',
    ...more,
    headers: { Accept: 'application/json', ...more.headers },
  };
  if (body !== undefined) {
    request.headers = { ...request.headers, 'Content-Type': 'application/json' };
    request.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(new URL(path, ROOT), request);
  } catch (error) {
    throw unreachable(error);
  }
  if (!response.ok) throw await errorFrom(response);
  return response;
}

/**
 * The error that a refusing answer tells.
 * @param {Response} response
 */
export async function errorFrom(response) {
  /** @type {Partial<Problem>} */
  let problem = {};
  try {
    if (isJson(response)) problem = (await response.json()) ?? {};
  } catch {
    // A proxy's broken page: the status says what is known.
  }
  return new ApiError({
    status: response.status,
    code: problem.code ?? `http_${response.status}`,
    title: problem.title ?? (response.statusText || `HTTP ${response.status}`),
    detail: problem.detail,
    errors: problem.errors,
    retryAfter: seconds(response.headers.get('Retry-After')),
  });
}

/** @param {unknown} error what `fetch` threw */
export function unreachable(error) {
  return new ApiError({
    status: 0,
    code: 'unreachable',
    title: 'The server was not reached',
    detail: String(error),
  });
}

/** @param {Response} response */
const isJson = (response) => /\bjson\b/.test(response.headers.get('Content-Type') ?? '');

/**
 * `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3).
 * @param {string | null} value
 */
function seconds(value) {
  if (!value) return undefined;
  const wait = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
}

/**
 * @param {string} text
 * @returns {any} undefined when it isn't JSON
 */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
