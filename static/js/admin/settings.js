/** Settings: a form drawn from the server's table, each with what it takes and where its value comes from. */
import { api, parsed } from '../api.js';
import { fold, t } from '../i18n.js';
import { stats } from './stream.js';
import { Action, attempt, Field, html, live, resource, Shown, signal } from './ui.js';
import { errorTitle } from '../page.js';
import { descriptions, labels } from './texts.js';

/** @type {Record<string, string>} */
const GROUPS = {
  access: 'admin.settings.access',
  limits: 'admin.settings.limits',
  streams: 'admin.settings.streams',
  storage: 'admin.settings.storage',
  video: 'admin.settings.video',
  network: 'admin.settings.network',
  own: 'admin.settings.own',
};
/** @type {Record<string, string>} */
const SOURCES = {
  'command line': 'admin.settings.fromCommand',
  environment: 'admin.settings.fromEnvironment',
};
/** What shows a secret that is set; sending it back would save it. */
const MASK = '********';

const rows = resource(() => api('GET', 'api/settings'));
const search = signal('');
const onlyChanged = signal(false);
/** What stands in fields that aren't saved; kept while other sections are looked at. @type {import('./ui.js').Signal<Record<string, string>>} */
export const drafts = signal({});
/** @type {import('./ui.js').Signal<Record<string, unknown>>} */
const faults = signal({});
/** @param {any} value as a field shows it */
const shown = (value) => (Array.isArray(value) ? value.join(', ') : value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value));

/** @param {Record<string, any>} all @param {string} key */
function without(all, key) {
  const { [key]: _, ...rest } = all;
  return rest;
}

/** @param {any} row */
async function save(row) {
  const text = drafts.peek()[row.key];
  const value = row.type === 'json' ? parsed(text) : undefined;
  faults.value = without(faults.peek(), row.key);
  try {
    replace(await api('POST', 'api/settings', { key: row.key, value: value === undefined ? text : value }));
    drafts.value = without(drafts.peek(), row.key);
  } catch (error) {
    faults.value = { ...faults.peek(), [row.key]: error };
  }
}

/** @param {any} row */
async function reset(row) {
  const back = await api('DELETE', `api/settings/${encodeURIComponent(row.key)}`);
  drafts.value = without(drafts.peek(), row.key);
  faults.value = without(faults.peek(), row.key);
  if (back.key) replace(back);
  else await rows.refresh();
}

/** @param {any} changed */
function replace(changed) {
  const state = rows.state.peek();
  rows.state.value = { ...state, data: state.data.map((/** @type {any} */ row) => (row.key === changed.key ? changed : row)) };
}

/** @param {string} key @param {string} value @param {any} row */
function draft(key, value, row) {
  drafts.value = value === shown(row.value) ? without(drafts.peek(), key) : { ...drafts.peek(), [key]: value };
}

/** @param {any} row */
const isChanged = (row) => row.source !== 'default';

/** A value as a word of the language, where there is one. @param {string} value */
const named = (value) => (value === 'true' ? t('admin.settings.yes') : value === 'false' ? t('admin.settings.no') : value);

/** Why a setting can't be changed here. @param {any} row */
function whyFixed(row) {
  if (SOURCES[row.source]) return SOURCES[row.source];
  const isAway = !rows.state.peek().data.some((/** @type {any} */ each) => each.key === 'public_url' && each.editable);
  return row.group === 'network' && isAway ? 'admin.settings.onlyHere' : 'admin.settings.atStart';
}

/** @param {any} row @param {string} text @param {any} more */
function control(row, text, more) {
  const id = `setting-${row.key}`;
  const put = (/** @type {any} */ event) => draft(row.key, event.target.value, row);
  const choices = row.type === 'bool' ? ['true', 'false'] : row.choices ?? [];
  if (choices.length) {
    return html`
      <select id=${id} value=${text} onChange=${put} ...${more}>
        ${choices.map((/** @type {string} */ choice) => html`<option value=${choice}>${named(choice)}</option>`)}
      </select>
    `;
  }
  const isNumber = row.type === 'int' || row.type === 'float';
  const bounds = isNumber ? { inputmode: 'decimal' } : {};
  const secret = row.value === MASK ? { onFocus: (/** @type {any} */ event) => event.target.select() } : {};
  return html`<input id=${id} value=${text} onInput=${put} autocomplete="off" spellcheck="false" ...${bounds} ...${secret} ...${more} />`;
}

/** @param {any} row */
function Setting(row) {
  const id = `setting-${row.key}`;
  const text = drafts.value[row.key] ?? shown(row.value);
  const isDraft = row.key in drafts.value;
  const fault = /** @type {any} */ (faults.value[row.key]);
  const own = descriptions.found.value[row.key];
  const more = { disabled: !row.editable, 'aria-invalid': fault ? 'true' : undefined, 'aria-describedby': `${id}-error ${id}-hint ${id}-more` };
  const submit = (/** @type {any} */ event) => {
    event.preventDefault();
    if (isDraft) void attempt(() => save(row));
  };
  return html`
    <form class="setting" key=${row.key} onSubmit=${submit} novalidate>
      <div class="about">
        <label for=${id}>${labels.found.value[row.key] ?? row.key}</label>
        <code class="key-name">${row.key}</code>
        ${isDraft && html` <span class="badge warn">${t('admin.settings.draft')}</span>`}
        ${isChanged(row) && html` <span class="badge accent">${t('admin.settings.changed')}</span>`}
        ${row.restart && html` <span class="badge">${t('admin.settings.restart')}</span>`}
        <p id="${id}-hint" class="hint" lang=${own ? undefined : 'en'}>${own ?? row.description}</p>
      </div>
      <div class="value stack">
        ${control(row, text, more)}
        <p id="${id}-error" class="field-error" role="alert" lang=${fault?.errors?.length ? 'en' : undefined}>
          ${fault && (fault.errors?.[0]?.message ?? errorTitle(fault))}
        </p>
        <p id="${id}-more" class="hint">
          ${!row.editable && html`${t(whyFixed(row))} `}
          ${t('admin.settings.default', { value: named(shown(row.default)) || t('admin.settings.nothing') })}
        </p>
        <div class="row">
          ${isDraft && html`<button class="small primary">${t('admin.save')}</button>`}
          ${isDraft && html`<button type="button" class="small" onClick=${() => draft(row.key, shown(row.value), row)}>${t('page.cancel')}</button>`}
          ${!isDraft && row.editable && isChanged(row) && html`<${Action} class="small" act=${() => reset(row)}>${t(row.group === 'own' ? 'admin.remove' : 'admin.settings.reset')}</>`}
        </div>
      </div>
    </form>
  `;
}

/** @param {any} row */
function isWanted(row) {
  const text = fold(`${row.key} ${labels.found.value[row.key] ?? ''} ${descriptions.found.value[row.key] ?? row.description}`);
  return text.includes(fold(search.value.trim())) && (!onlyChanged.value || isChanged(row));
}

const Groups = live(({ all }) => {
  const groups = Object.keys(GROUPS)
    .map((name) => ({ name, found: all.filter((/** @type {any} */ row) => row.group === name && isWanted(row)) }))
    .filter(({ found }) => found.length);
  if (!groups.length) return html`<p class="empty">${t('admin.settings.none')}</p>`;
  return groups.map(
    ({ name, found }) => html`
      <section class="card stack" key=${name} aria-labelledby="group-${name}">
        <h2 id="group-${name}">${t(GROUPS[name])}</h2>
        ${found.map(Setting)}
      </section>
    `,
  );
});

/** One after the other: what is wrong stays, marked. */
async function saveAll() {
  for (const row of rows.state.peek().data) if (row.key in drafts.peek()) await save(row);
}

const Drafts = live(() => {
  const names = Object.keys(drafts.value);
  if (!names.length) return null;
  return html`
    <div class="banner info" role="status">
      <p class="title">${t('admin.settings.unsaved', { count: names.length })}</p>
      <p class="body">${names.map((name) => labels.found.value[name] ?? name).join(', ')}</p>
      <p class="row"><${Action} class="small" act=${saveAll}>${t('admin.settings.saveAll')}</><button type="button" class="small" onClick=${discard}>${t('admin.settings.discard')}</button></p>
    </div>
  `;
});

/** What was saved since the server began to run, by its own clock, waits for its next start. */
const Waiting = live(() => {
  const { timestamp, uptime } = stats.value ?? {};
  const started = Date.parse(timestamp) - uptime * 1000;
  const later = (rows.state.value.data ?? []).filter((/** @type {any} */ row) => row.restart && row.updatedAt && Date.parse(row.updatedAt) > started);
  if (!later.length) return null;
  const names = later.map((/** @type {any} */ row) => row.key).join(', ');
  return html`<div class="banner warn" role="status"><p class="title">${t('admin.settings.restartNeeded')}</p><p class="body">${names}</p></div>`;
});

export const Settings = live(
  () => html`
    <div class="filters" role="search">
      <${Field} id="setting-search" label=${t('admin.search')}>
        <input id="setting-search" type="search" value=${search.value} onInput=${(/** @type {any} */ event) => (search.value = event.target.value)} />
      </>
      <button type="button" aria-pressed=${String(onlyChanged.value)} onClick=${() => (onlyChanged.value = !onlyChanged.peek())}>${t('admin.settings.onlyChanged')}</button>
    </div>
    <${Drafts} />
    <${Waiting} />
    <${Shown} of=${rows}>${(/** @type {any[]} */ all) => html`<${Groups} all=${all} />`}</>
  `,
);

export async function enter() {
  await Promise.all([labels.load(), descriptions.load(), rows.refresh()]);
  focusWanted();
}

export const leave = rows.forget;

/** What was typed goes with whoever typed it. */
export function discard() {
  drafts.value = {};
  faults.value = {};
}

addEventListener('beforeunload', (event) => {
  if (Object.keys(drafts.peek()).length) event.preventDefault();
});

/** Whose field gets the focus once it is there. */
let wanted = '';

/** Show one setting. @param {string} key */
export function showSetting(key) {
  search.value = key;
  onlyChanged.value = false;
  wanted = key;
  if (rows.state.peek().data) focusWanted();
}

/** After the section's title, which gets the focus when it is opened. */
function focusWanted() {
  const id = `setting-${wanted}`;
  if (wanted) setTimeout(() => document.getElementById(id)?.focus(), 100);
  wanted = '';
}
