/** The API reference: `api/openapi.json` (OpenAPI 3.1) as a page. */
import './account.js';
import { api } from './api.js';
import { fold, onLanguage, t } from './i18n.js';
import { button, byId, errorBanner, h, isComposing, startPage } from './page.js';
import { refresh } from './session.js';

/**
 * What we read of OpenAPI and JSON Schema; everything else is passed over.
 * @typedef {Record<string, any>} Schema
 * @typedef {{ name: string, in: string, required?: boolean, description?: string, schema?: Schema }} Parameter
 * @typedef {{ description?: string, required?: boolean, content?: Record<string, { schema?: Schema, example?: unknown }> }} Body
 * @typedef {object} Definition
 * @property {string} [summary]
 * @property {string} [description]
 * @property {string[]} [tags]
 * @property {boolean} [deprecated]
 * @property {Parameter[]} [parameters]
 * @property {Body} [requestBody]
 * @property {Record<string, Body>} [responses]
 * @property {string} [x-role]
 * @typedef {{ id: string, method: string, path: string, definition: Definition, parameters: Parameter[], group: string, haystack: string }} Operation
 */

const METHODS = ['get', 'post', 'put', 'patch', 'delete', 'head', 'options'];
const DEPTH = 3; // levels of a schema shown as rows

/** Colour of a method's badge, beside its name. @type {Record<string, string>} */
const COLOURS = { get: 'info', post: 'ok', put: 'warn', patch: 'warn', delete: 'error' };

/** Who may call, as texts; a role that isn't here is shown as it is. @type {Record<string, string>} */
const ROLES = {
  public: 'docs.role.anyone',
  anonymous: 'docs.role.anyone',
  guest: 'docs.role.guest',
  subscribe: 'docs.role.subscribe',
  publish: 'docs.role.publish',
  user: 'docs.role.user',
  admin: 'docs.role.admin',
  stream: 'docs.role.stream',
  room: 'docs.role.room',
  session: 'docs.role.session',
  metrics: 'docs.role.metrics',
};

/** @type {Record<string, any>} */
let openapi = {};
/** @type {Operation[]} */
let operations = [];
/** @type {unknown} */
let failure;
const filter = /** @type {HTMLInputElement} */ (byId('filter'));

// ---- reading the description -----------------------------------------------------------------

function readOperations() {
  /** @type {Operation[]} */
  const found = [];
  for (const [path, item] of Object.entries(openapi.paths ?? {})) {
    for (const method of METHODS) {
      if (item[method]) found.push(operation(path, method, item));
    }
  }
  return found;
}

/**
 * @param {string} path
 * @param {string} method
 * @param {Record<string, any>} item what OpenAPI says of the path
 * @returns {Operation}
 */
function operation(path, method, item) {
  /** @type {Definition} */
  const definition = item[method];
  const parameters = [...(item.parameters ?? []), ...(definition.parameters ?? [])].map(resolve);
  const words = [
    method,
    path,
    definition.summary,
    definition.description,
    definition['x-role'],
    ...(definition.tags ?? []),
  ];
  return {
    id: `${method}${path}`.replace(/[^\w-]+/g, '-'),
    method,
    path,
    definition,
    parameters,
    group: definition.tags?.[0] ?? path.split('/').slice(1, 3).join('/'),
    haystack: fold([...words, ...parameters.map(({ name }) => name)].join(' ')),
  };
}

/**
 * Follow a `$ref` into this document.
 * @param {any} value
 * @returns {any}
 */
function resolve(value) {
  if (typeof value?.$ref !== 'string') return value ?? {};
  const steps = value.$ref.replace(/^#\//, '').split('/');
  const target = steps.reduce(
    (/** @type {any} */ at, /** @type {string} */ step) => at?.[step.replace(/~1/g, '/').replace(/~0/g, '~')],
    openapi,
  );
  const { $ref: _, ...beside } = value;
  return { ...target, ...beside };
}

/** @param {any} schema */
const refName = (schema) => (typeof schema?.$ref === 'string' ? schema.$ref.split('/').pop() : '');

/**
 * A schema in a few words: `string (uuid)`, `array of Room`, `integer | null`.
 * @param {Schema | boolean | undefined} schema
 * @param {number} [depth]
 * @returns {string}
 */
function typeName(schema, depth = 0) {
  if (schema === undefined || schema === true || depth > DEPTH) return t('docs.any');
  if (schema === false) return 'never';
  if (refName(schema)) return refName(schema);
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices) return choices.map((/** @type {Schema} */ one) => typeName(one, depth + 1)).join(' | ');
  if (schema.allOf)
    return schema.allOf.map((/** @type {Schema} */ one) => typeName(one, depth + 1)).join(' & ');
  if ('const' in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((/** @type {unknown} */ one) => JSON.stringify(one)).join(' | ');
  const types = [schema.type ?? (schema.properties ? 'object' : [])].flat();
  const names = types.map((type) => (type === 'array' ? `${typeName(schema.items, depth + 1)}[]` : type));
  if (!names.length) return t('docs.any');
  return names.join(' | ') + (schema.format ? ` (${schema.format})` : '');
}

/**
 * The bounds of a schema, as the standard's own words.
 * @param {Schema} schema
 */
function bounds(schema) {
  const words = [
    'minimum',
    'maximum',
    'minLength',
    'maxLength',
    'minItems',
    'maxItems',
    'pattern',
    'default',
  ];
  return words
    .filter((word) => word in schema)
    .map((word) => `${word} ${JSON.stringify(schema[word])}`)
    .join(', ');
}

// ---- drawing ---------------------------------------------------------------------------------

function render() {
  const info = openapi.info ?? {};
  byId('version').textContent = info.version
    ? t('docs.version', { name: info.title ?? '', version: info.version })
    : '';
  byId('operations').setAttribute('aria-busy', 'false');
  byId('tools').hidden = byId('found').hidden = Boolean(failure);
  if (failure) return byId('operations').replaceChildren(errorBanner(failure, button(t('page.again'), load)));
  const open = new Set(openIds());
  const groups = [...groupBy(operations)];
  byId('operations').replaceChildren(
    ...groups.map(([name, members]) => groupSection(name, members)),
    emptyState(),
  );
  for (const id of open) details(id)?.setAttribute('open', '');
  applyFilter();
}

/** @param {Operation[]} all */
function groupBy(all) {
  /** @type {Map<string, Operation[]>} */
  const groups = new Map();
  for (const one of all) groups.set(one.group, [...(groups.get(one.group) ?? []), one]);
  return groups;
}

/**
 * @param {string} name
 * @param {Operation[]} members
 */
function groupSection(name, members) {
  return h('section', { class: 'group stack' }, h('h2', {}, name), ...members.map(operationDetails));
}

function emptyState() {
  return h(
    'p',
    { class: 'empty', id: 'nothing', hidden: true },
    t(operations.length ? 'docs.nothing' : 'docs.empty'),
  );
}

/** @param {Operation} operation */
function operationDetails(operation) {
  const { id, method, path, definition } = operation;
  const role = definition['x-role'];
  const element = h(
    'details',
    { class: 'operation', id },
    h(
      'summary',
      {},
      h('span', { class: `badge method ${COLOURS[method] ?? ''}` }, method.toUpperCase()),
      h('code', { class: 'path' }, ...breakable(path)),
      h('span', { class: 'summary', lang: 'en' }, definition.summary ?? ''),
      role
        ? h(
            'span',
            { class: 'badge role' },
            h('span', { class: 'visually-hidden' }, t('docs.role')),
            ' ',
            roleName(role),
          )
        : undefined,
    ),
  );
  // Filled when first opened: a hundred closed operations cost little.
  element.addEventListener('toggle', () => {
    if (element.open && !element.querySelector('.content')) element.append(operationContent(operation));
  });
  return element;
}

/** A long path may break before a slash rather than anywhere. @param {string} path */
const breakable = (path) => path.split(/(?=\/)/).flatMap((step) => [h('wbr'), step]);

/** @param {string} role */
const roleName = (role) => (Object.hasOwn(ROLES, role) ? t(ROLES[role]) : role);

/** @param {Operation} operation */
function operationContent({ definition, parameters }) {
  const body = definition.requestBody && resolve(definition.requestBody);
  return h(
    'div',
    { class: 'content stack' },
    definition.deprecated ? h('p', { class: 'banner warn' }, t('docs.deprecated')) : undefined,
    english('p', definition.description),
    parameters.length ? parametersPart(parameters) : undefined,
    body ? bodyPart(body) : undefined,
    definition.responses ? responsesPart(definition.responses) : undefined,
  );
}

/**
 * @param {string} title
 * @param {...(Node | string | undefined)} children
 */
const part = (title, ...children) => h('div', { class: 'stack part' }, h('h3', {}, title), ...children);

/** @param {Parameter[]} parameters */
function parametersPart(parameters) {
  const rows = parameters.map(({ name, in: place, required, description, schema }) =>
    fieldRow(name, schema, { required, description, place }),
  );
  return part(t('docs.parameters'), h('dl', { class: 'fields' }, ...rows));
}

/** @param {Body} body */
function bodyPart(body) {
  return part(t('docs.body'), english('p', body.description), ...contentParts(body));
}

/** @param {Record<string, Body>} responses */
function responsesPart(responses) {
  const items = Object.entries(responses).map(([status, given]) => {
    const response = resolve(given);
    const colour = /^[23]/.test(status) ? 'ok' : 'warn';
    const line = h(
      'p',
      {},
      h('span', { class: `badge ${colour}` }, status),
      ' ',
      english('span', response.description),
    );
    // Every error has the same shape, told once at the top of the page.
    return h('li', { class: 'stack' }, line, ...(colour === 'ok' ? contentParts(response) : []));
  });
  return part(t('docs.responses'), h('ul', { class: 'plain stack' }, ...items));
}

/**
 * A body by its types: the name, the fields, an example.
 * @param {Body} body
 */
function contentParts({ content = {} }) {
  return Object.entries(content).flatMap(([type, { schema, example }]) => {
    const resolved = resolve(schema);
    const kinds = resolved.anyOf ?? [resolved.type === 'array' ? resolved.items : schema];
    const rows = kinds.flatMap((/** @type {Schema} */ kind) => fieldRows(kind));
    const examples = [example, ...(resolved.examples ?? [])].filter((one) => one !== undefined);
    return [
      h('p', {}, h('code', {}, type), ' ', typeBadge(schema)),
      english('p', resolved.description),
      rows.length ? h('dl', { class: 'fields' }, ...rows) : undefined,
      ...examples.map((one) => h('pre', {}, JSON.stringify(one, null, 2))),
    ];
  });
}

/**
 * Rows of an object's fields, its objects' below it and indented; a schema inside itself is named, not repeated.
 * @param {Schema | undefined} schema
 * @param {string[]} [above] names of the schemas around it
 * @param {number} [depth]
 * @returns {HTMLElement[]}
 */
function fieldRows(schema, above = [], depth = 0) {
  const name = refName(schema);
  if (depth > DEPTH || above.includes(name)) return [];
  const { properties = {}, required = [] } = resolve(schema);
  return Object.entries(properties).flatMap(([key, property]) => {
    const inner = resolve(property);
    const below = inner.type === 'array' ? inner.items : property;
    const about = { required: required.includes(key), description: inner.description, depth };
    return [fieldRow(key, property, about), ...fieldRows(below, name ? [...above, name] : above, depth + 1)];
  });
}

/**
 * @param {string} name
 * @param {Schema | undefined} schema
 * @param {{ required?: boolean, description?: string, place?: string, depth?: number }} about
 */
function fieldRow(name, schema, { required, description, place, depth = 0 }) {
  return h(
    'div',
    { class: depth ? `depth-${depth}` : undefined },
    h('dt', {}, h('code', {}, name)),
    h(
      'dd',
      {},
      typeBadge(schema),
      h(
        'span',
        { class: 'hint' },
        [place && ` · ${place}`, required && ` · ${t('docs.required')}`].filter(Boolean).join(''),
      ),
      english('p', [description, bounds(resolve(schema))].filter(Boolean).join(' · ')),
    ),
  );
}

/** @param {Schema | undefined} schema */
const typeBadge = (schema) => h('span', { class: 'type mono' }, typeName(schema));

/**
 * The server's own words; nothing where it has none.
 * @param {'p' | 'span'} tag
 * @param {string | undefined} text
 */
const english = (tag, text) => (text ? h(tag, { lang: 'en' }, text) : undefined);

// ---- filter and links ------------------------------------------------------------------------

function applyFilter() {
  const words = fold(filter.value).split(/\s+/).filter(Boolean);
  let count = 0;
  for (const { id, haystack } of operations) {
    const match = words.every((word) => haystack.includes(word));
    count += Number(match);
    const element = details(id);
    if (element) element.hidden = !match;
  }
  for (const section of document.querySelectorAll('.group')) {
    /** @type {HTMLElement} */ (section).hidden = !section.querySelector('.operation:not([hidden])');
  }
  byId('nothing').hidden = count > 0;
  byId('found').textContent = t('docs.found', { count, total: operations.length });
}

/** @param {string} id */
const details = (id) => /** @type {HTMLDetailsElement | null} */ (document.getElementById(id));

const openIds = () => operations.map(({ id }) => id).filter((id) => details(id)?.open);

/** @param {boolean} open */
function setAll(open) {
  for (const { id } of operations) {
    const element = details(id);
    if (element && !element.hidden) element.open = open;
  }
}

/** `#post-api-broadcast` opens and shows that operation. */
function openLinked() {
  const element = details(location.hash.slice(1));
  if (!element?.matches('.operation')) return;
  element.open = true;
  element.scrollIntoView();
  element.querySelector('summary')?.focus({ preventScroll: true });
}

/** "/" goes to the filter, Escape empties it. @param {KeyboardEvent} event */
function onKey(event) {
  const typing = event.target instanceof Element && event.target.matches('input, select, textarea');
  if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    filter.focus();
  } else if (event.key === 'Escape' && event.target === filter && !isComposing(event)) {
    filter.value = '';
    applyFilter();
  }
}

async function load() {
  try {
    openapi = await api('GET', 'api/openapi.json');
    operations = readOperations();
    failure = undefined;
  } catch (error) {
    failure = error;
  }
  render();
}

await startPage();
void refresh();
byId('tools').addEventListener('submit', (event) => event.preventDefault());
filter.addEventListener('input', applyFilter);
byId('open-all').addEventListener('click', () => setAll(true));
byId('close-all').addEventListener('click', () => setAll(false));
document.addEventListener('keydown', onKey);
addEventListener('hashchange', openLinked);
await load();
openLinked();
onLanguage(render);
