/** What the dashboard is drawn with: Preact, htm and signals, and the small parts that its sections share. */
import htm from '../../vendor/htm/htm.mjs';
import { Component, h } from '../../vendor/preact/preact.mjs';
import { effect, signal } from '../../vendor/signals-core/signals-core.mjs';
import { ApiError } from '../api.js';
import { clearErrors, wireForm } from '../forms.js';
import { beginning, formatDate, language, onLanguage, t } from '../i18n.js';
import { closable, notice } from '../notices.js';
import { errorBanner, errorTitle } from '../page.js';
import { saysEnded } from '../session.js';

export { Component, render } from '../../vendor/preact/preact.mjs';
export { batch, computed, effect, signal } from '../../vendor/signals-core/signals-core.mjs';

/** @template T @typedef {import('../../vendor/signals-core/signals-core.mjs').Signal<T>} Signal */

export { confirmed } from '../dialog.js';
export { formatBytes } from '../i18n.js';

export const html = htm.bind(h);

/** Read by whatever shows a text. */
const texts = signal(0);
onLanguage(() => {
  texts.value = texts.peek() + 1;
});

/** Draws again when a signal that the view has read changes, or the language. */
class Live extends Component {
  stop = () => {};

  /** @param {any} props */
  render({ view, props }) {
    this.stop();
    /** @type {any} */
    let drawn;
    let isFirst = true;
    this.stop = effect(() => {
      void texts.value;
      if (isFirst) drawn = view(props);
      else this.setState({});
      isFirst = false;
    });
    return drawn;
  }

  componentWillUnmount() {
    this.stop();
  }
}

/**
 * A component of a view that reads signals.
 * @param {(props: any) => any} view
 */
export function live(view) {
  return (/** @type {any} */ props) => html`<${Live} view=${view} props=${props} />`;
}

// ---- asking the server -----------------------------------------------------------------------

/** @typedef {{ data: any, error: unknown, busy: boolean }} Loaded */

/**
 * What the server was asked for last: `state` shows it, what is still on its way, or why it failed.
 * A failed attempt leaves what was there before.
 * @param {() => Promise<any>} load
 */
export function resource(load) {
  /** @type {Signal<Loaded>} */
  const state = signal({ data: undefined, error: undefined, busy: false });
  let turn = 0;

  async function refresh() {
    const mine = (turn += 1);
    state.value = { ...state.peek(), busy: true };
    try {
      const data = await load();
      if (mine === turn) state.value = { data, error: undefined, busy: false };
    } catch (error) {
      saysEnded(error);
      if (mine === turn) state.value = { ...state.peek(), error, busy: false };
    }
  }

  function forget() {
    turn += 1;
    state.value = { data: undefined, error: undefined, busy: false };
  }

  return { state, refresh, forget };
}

/** @typedef {ReturnType<typeof resource>} Resource */

/**
 * What a section does at each beat: ask again after so many, unless it is at it.
 * @param {number} beats
 * @param {{ state: Signal<Loaded>, refresh: () => unknown }} of
 */
export function every(beats, { state, refresh }) {
  let turn = 0;
  return () => {
    turn += 1;
    if (turn % beats === 0 && !state.peek().busy) void refresh();
  };
}

/** A dialog is open as long as it is drawn. @param {HTMLDialogElement | null} dialog its `ref` */
export const opened = (dialog) => dialog && !dialog.open && dialog.showModal();

/** Its data as `children` draws it, or what is to be said instead. */
export const Shown = live(({ of, empty = '', children }) => {
  const { data, error } = of.state.value;
  const nothing = Array.isArray(data?.rows ?? data) && (data.rows ?? data).length === 0;
  return html`
    ${error && html`<${Trouble} error=${error} again=${of.refresh} />`}
    ${
      data === undefined
        ? !error && html`<p class="loading" role="status">${t('admin.loading')}</p>`
        : nothing
          ? html`<p class="empty">${empty}</p>`
          : children(data)
    }
  `;
});

/** What went wrong, the server's words below ours, and another try. @param {any} props */
function Trouble({ error, again }) {
  const words = error instanceof ApiError && error.status ? error.detail || error.title : '';
  return html`
    <div class="banner error" role="alert">
      <p class="title">${errorTitle(error)}</p>
      ${words && html`<p class="body" lang="en">${words}</p>`}
      <button type="button" class="small" onClick=${again}>${t('page.again')}</button>
    </div>
  `;
}

/**
 * Do what an administrator asked for; a failure is told above the page.
 * @param {() => Promise<unknown>} act
 * @param {() => string} [done] what is said when it is done
 */
export async function attempt(act, done) {
  try {
    await act();
    notice('act', done && (() => closable('ok', done(), () => notice('act'))));
  } catch (error) {
    if (!saysEnded(error)) notice('act', () => errorBanner(error));
  }
}

/** A button that shows that it is at work. */
export class Action extends Component {
  /** @param {any} props */
  constructor(props) {
    super(props);
    this.state = { busy: false };
  }

  async act() {
    if (this.state.busy) return;
    this.setState({ busy: true });
    await attempt(this.props.act, this.props.done);
    this.setState({ busy: false });
  }

  /** @param {any} props @param {any} state */
  render({ act, done, children, ...more }, { busy }) {
    const mark = busy ? 'true' : undefined;
    return html`
      <button type="button" ...${more} aria-disabled=${mark} aria-busy=${mark} onClick=${() => this.act()}>
        ${children}
      </button>
    `;
  }
}

// ---- forms -----------------------------------------------------------------------------------

/** A form with the behaviour of `forms.js`; `acts` is what `wireForm` takes, with the form itself. */
export class Form extends Component {
  /** @type {HTMLFormElement | undefined} */
  form;
  keep = (/** @type {HTMLFormElement | null} */ form) => {
    this.form ??= form ?? undefined;
  };

  componentDidMount() {
    const form = /** @type {HTMLFormElement} */ (this.form);
    const { check, send, done, codes } = this.props;
    wireForm(form, {
      check: check && (() => check(form)),
      send: async () => {
        await send(form);
        if (done) notice('act', () => closable('ok', done(), () => notice('act')));
      },
      codes,
      refused: saysEnded,
    });
  }

  componentWillUnmount() {
    if (this.form) clearErrors(this.form);
  }

  /** @param {any} props */
  render({ check, send, done, codes, children, ...more }) {
    return html`<form novalidate ref=${this.keep} ...${more}>${children}</form>`;
  }
}

/** A field with its label, its fault and a hint. @param {any} props */
export function Field({ id, label, hint, optional, children, lang }) {
  return html`
    <div class="field">
      <label for=${id}>
        ${label}${optional && html` <span class="optional">${t('send.optional')}</span>`}
      </label>
      ${children}
      <p id="${id}-error" class="field-error"></p>
      ${hint && html`<p id="${id}-hint" class="hint" lang=${lang}>${hint}</p>`}
    </div>
  `;
}

/** @param {HTMLFormElement} form @param {string} name */
export const fieldOf = (form, name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name));

/** @param {HTMLFormElement} form @param {string} name */
export const valueOf = (form, name) => fieldOf(form, name).value.trim();

// ---- lists -----------------------------------------------------------------------------------

/**
 * Gives each row a `key`. A row that stays keeps its own, and a new one takes that of one that went, so
 * that its elements are filled anew: made for each, they would pile up faster than a browser collects.
 * @param {(row: any) => unknown} shape rows of one shape are drawn with the same elements
 */
function keyed(shape) {
  /** By the id of the row. @type {Map<number, string>} */
  let keys = new Map();
  let made = 0;
  return (/** @type {any[]} */ rows) => {
    const staying = new Set(rows.map(({ id }) => id));
    const free = [...keys].filter(([id]) => !staying.has(id)).map(([, key]) => key);
    const take = (/** @type {string} */ wanted) => {
      const at = free.findIndex((key) => key.startsWith(wanted));
      return at < 0 ? `${wanted}${(made += 1)}` : free.splice(at, 1)[0];
    };
    keys = new Map(rows.map((row) => [row.id, keys.get(row.id) ?? take(`${shape(row)}:`)]));
    return rows.map((row) => ({ ...row, key: keys.get(row.id) }));
  };
}

/**
 * A list that the server gives page by page.
 * @param {() => string} path of the first page
 * @param {(path: string) => Promise<{ rows: any[], total: number, next: string }>} load
 * @param {(row: any) => unknown} [shape] tells rows apart that are drawn with other elements
 */
export function pages(path, load, shape = () => '') {
  /** The paths of the pages that led here. @type {string[]} */
  let trail = [];
  const withKeys = keyed(shape);
  const list = resource(async () => {
    const { rows, ...more } = await load(trail.at(-1) ?? path());
    return { ...more, rows: withKeys(rows), page: trail.length + 1 };
  });

  return {
    ...list,
    isFirst: () => trail.length === 0,
    first() {
      trail = [];
      return list.refresh();
    },
    forward() {
      const next = list.state.peek().data?.next;
      if (next && next !== trail.at(-1)) trail = [...trail, next]; // pressed again before it came
      return list.refresh();
    },
    back() {
      trail = trail.slice(0, -1);
      return list.refresh();
    },
  };
}

/** Where in the list this page is, and the way on. */
const Pager = live(({ of, label }) => {
  const { data } = of.state.value;
  if (!data?.page || (data.page === 1 && !data.next)) return null; // one page, or a list without pages
  return html`
    <nav class="row end pager" aria-label=${label}>
      <p class="hint">${t('admin.page', { page: data.page, total: data.total })}</p>
      <div class="row">
        <button type="button" class="small" disabled=${data.page === 1} onClick=${of.back}>
          ${t('admin.previous')}
        </button>
        <button type="button" class="small" disabled=${!data.next} onClick=${of.forward}>
          ${t('admin.next')}
        </button>
      </div>
    </nav>
  `;
});

/**
 * A column: the key of its name, what it shows of a row, what rows are sorted by, and whether it is of
 * figures (`num`), `wide`, or of `names`.
 * @typedef {[name: string, draw: (row: any) => unknown, by?: ((row: any) => unknown) | null, kind?: 'num' | 'wide' | 'names']} Column
 */

/** The column by which each table is sorted, by the table's name. @type {Signal<Record<string, { column: number, isDown: boolean }>>} */
const orders = signal({});

/**
 * Rows in the order of what `by` tells of them; who has none comes last either way.
 * @param {any[]} rows
 * @param {(row: any) => any} by
 * @param {boolean} isDown
 */
export function sorted(rows, by, isDown) {
  const words = new Intl.Collator(language(), { numeric: true });
  const hasNone = (/** @type {unknown} */ value) => value === null || value === undefined || value === '';
  return rows
    .map((row) => ({ row, value: by(row) }))
    .sort(({ value: one }, { value: other }) => {
      if (hasNone(one) || hasNone(other)) return Number(hasNone(one)) - Number(hasNone(other));
      const order = typeof one === 'number' ? one - other : words.compare(String(one), String(other));
      return isDown ? -order : order;
    })
    .map(({ row }) => row);
}

/** Up, down (figures the other way round), and back to the server's order. @param {string} name @param {number} column @param {boolean} isNumber */
function sortBy(name, column, isNumber) {
  const { [name]: order, ...others } = orders.peek();
  const isSame = order?.column === column;
  if (isSame && order.isDown !== isNumber) orders.value = others;
  else orders.value = { ...others, [name]: { column, isDown: isSame !== isNumber } };
}

/**
 * A table of what was asked for, page by page where the server gives pages.
 * @param {any} props `of` is what was asked for, `empty` what is said where it has no rows, `label` whose list it is;
 *   the rest is the table's
 */
export const List = ({ of, empty, label, ...table }) => html`
  <${Shown} of=${of} empty=${empty}>
    ${(/** @type {any} */ data) => html`<${Table} ...${table} label=${label} rows=${data.rows ?? data} part=${data.page > 1 || data.next} />`}
  </>
  <${Pager} of=${of} label=${label} />
`;

/**
 * A table that is sorted by its heads; each row is headed by its first cell. On a phone each row is a card,
 * with the columns' names at the values; the roles are given since such a one is no table to a browser.
 * `part` says that there are more rows than these, `compact` that a card has no head, and tells what its
 * values are without the names.
 * @param {any} props
 */
const Table = live(({ name, label, columns, rows, part, compact }) => {
  const order = orders.value[name];
  const by = columns[order?.column]?.[2];
  const shown = by ? sorted(rows, by, order.isDown) : rows;
  const head = (/** @type {Column} */ [text, , sorts, kind], /** @type {number} */ at) => {
    const isNumber = kind === 'num';
    const direction = order?.column === at ? (order.isDown ? 'descending' : 'ascending') : undefined;
    return html`
      <th scope="col" role="columnheader" class=${isNumber && 'num'} aria-sort=${direction}>
        ${sorts ? html`<button type="button" class="sort" onClick=${() => sortBy(name, at, isNumber)}>${t(text)}</button>` : t(text)}
      </th>
    `;
  };
  const cell = (/** @type {any} */ row) => (/** @type {Column} */ [text, draw, , kind], /** @type {number} */ at) =>
    at || compact
      ? html`<td role="cell" class=${kind} data-label=${t(text)}>${draw(row)}</td>`
      : html`<th scope="row" role="rowheader" class=${kind} data-label=${t(text)}>${draw(row)}</th>`;
  return html`
    <div class=${compact ? 'table-wrap compact' : 'table-wrap'} role="region" tabindex="0" aria-label=${label}>
      <table role="table">
        <thead role="rowgroup"><tr role="row">${columns.map(head)}</tr></thead>
        <tbody role="rowgroup">
          ${shown.map((/** @type {any} */ row) => html`<tr key=${row.key ?? row.id ?? row.name} role="row">${columns.map(cell(row))}</tr>`)}
        </tbody>
      </table>
      ${by && part && html`<p class="hint">${t('admin.sort.part')}</p>`}
    </div>
  `;
});

// ---- values ----------------------------------------------------------------------------------

const now = signal(Date.now());
setInterval(() => (now.value = Date.now()), 20_000);
/** How far the server's clock, which wrote the moments, is ahead of this one, in ms. */
const ahead = signal(0);

/** Now, by the server's clock. */
export const serverNow = () => Math.max(now.value, Date.now()) + ahead.value;

/** Learn the server's clock; what the way takes is no difference. @param {number} at ms */
export function setClock(at) {
  const next = at - Date.now();
  if (Math.abs(next - ahead.peek()) > 10_000) ahead.value = next;
}

/** @type {{ language: string, words: Intl.RelativeTimeFormat } | undefined} */
let relative;

/**
 * How long ago, or in how long: "3 min. ago". What is more than a week away is a date.
 * @param {number} at ms
 */
export function formatAgo(at, from = Date.now()) {
  const seconds = (at - from) / 1000;
  const size = Math.abs(seconds);
  if (size >= 7 * 86_400) return formatDate(at, { dateStyle: 'medium' });
  if (relative?.language !== language()) {
    relative = { language: language(), words: new Intl.RelativeTimeFormat(language(), { numeric: 'auto', style: 'short' }) };
  }
  /** @type {[number, Intl.RelativeTimeFormatUnit]} */
  const [length, unit] = size < 60 ? [Infinity, 'second'] : size < 3600 ? [60, 'minute'] : size < 86_400 ? [3600, 'hour'] : [86_400, 'day'];
  return relative.words.format(Math.trunc(seconds / length) || 0, unit);
}

/** A moment as it is told: `exact`, or how far away it is, and exact for whoever points at it. */
export const Moment = live(({ at, exact }) => {
  if (!at) return html`<span>–</span>`;
  const full = formatDate(at, { dateStyle: 'short', timeStyle: 'medium' });
  if (exact) return html`<time datetime=${at}>${full}</time>`;
  return html`<time datetime=${at} title=${full}>${formatAgo(Date.parse(at), serverNow())}</time>`;
});

/** A column of moments. @param {string} name @param {string} key of the rows @returns {Column} */
export const moments = (name, key) => [name, (row) => html`<${Moment} at=${row[key]} />`, (row) => row[key] && Date.parse(row[key])];

/** @param {any} value as it is shown in a line */
export const brief = (value, length = 160) => {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > length ? `${beginning(text, length)}…` : text;
};
