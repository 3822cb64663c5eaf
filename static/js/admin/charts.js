/** Charts over time: uPlot in the page's colours and the reader's language, one cursor and one zoom for all. */
import { Component } from '../../vendor/preact/preact.mjs';
import { formatDate, formatNumber, t } from '../i18n.js';
import { effect, html, live, signal } from './ui.js';

/** @typedef {{ key: string, label: string, color: string }} Line `color` is a custom property of the theme */
/** @typedef {import('./stream.js').Sample} Sample */
/** What is seen of the time, in seconds. @typedef {{ from: number, to: number }} Span */

const HEIGHT = 170;
const NARROWEST = 10; // seconds
/** Lines are told apart without their colours, too. @type {Record<string, number[]>} */
const DASHES = { '--info': [8, 4], '--warn': [3, 3] };

/** The moment whose values are told, in seconds; none: the newest. @type {import('./ui.js').Signal<number | undefined>} */
export const cursor = signal(undefined);
/** @type {import('./ui.js').Signal<Span | undefined>} */
export const zoom = signal(undefined);

/** @param {number} at seconds @param {boolean} [exact] */
const clock = (at, exact = false) =>
  formatDate(at * 1000, { hour: '2-digit', minute: '2-digit', ...(exact && { second: '2-digit' }), hourCycle: 'h23' });

/**
 * Which sample is nearest to a moment; the last one without a moment.
 * @param {Sample[]} samples
 * @param {number | undefined} at
 */
export function nearest(samples, at) {
  if (at === undefined) return samples.length - 1;
  let low = 0;
  let high = samples.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (samples[middle].at < at) low = middle + 1;
    else high = middle;
  }
  return low > 0 && at - samples[low - 1].at < samples[low].at - at ? low - 1 : low;
}

/**
 * A span so many times as wide around a moment, within the whole; none: the whole.
 * @param {Span} span
 * @param {number} factor
 * @param {number} around
 * @param {Span} whole
 * @returns {Span | undefined}
 */
export function zoomed(span, factor, around, whole) {
  const width = Math.max(NARROWEST, (span.to - span.from) * factor);
  if (width > 0.98 * (whole.to - whole.from)) return undefined;
  const share = (around - span.from) / (span.to - span.from || 1);
  const from = Math.min(Math.max(around - share * width, whole.from), whole.to - width);
  return { from, to: from + width };
}

/** @param {number} factor @param {Span} whole */
export function zoomBy(factor, whole) {
  const span = zoom.peek() ?? whole;
  zoom.value = zoomed(span, factor, cursor.peek() ?? (span.from + span.to) / 2, whole);
}

/** Which moment is told, or which span is seen. */
export const Where = live(({ whole }) => {
  const at = cursor.value;
  const { from, to } = zoom.value ?? whole;
  const exact = to - from < 1800;
  return html`<p class="hint where">${at === undefined ? `${clock(from, exact)} – ${clock(to, exact)}` : clock(at, exact)}</p>`;
});

/** What each line is and its value at the cursor. */
const Legend = live(({ lines, samples, format }) => {
  const values = samples[nearest(samples, cursor.value)]?.values;
  return html`
    <p class="row legend">
      ${lines.map(
        (/** @type {Line} */ line) => html`
          <span class="key"><i class=${`swatch ${line.color.slice(2)}`}></i>${line.label}${' '}<b>${said(values?.[line.key], format)}</b></span>
        `,
      )}
    </p>
  `;
});

/** @param {number | undefined} value @param {(value: number) => string} format */
const said = (value, format) => (value === undefined ? '–' : format(value));

/**
 * Lines over a span of time. Its values stand in words above it; whoever has no pointer moves the
 * cursor by keys, as on a slider, and is told them.
 */
export class Chart extends Component {
  /** @type {any} */
  plot;
  /** @type {HTMLElement | undefined} */
  place;
  keep = (/** @type {HTMLElement | null} */ place) => {
    this.place ??= place ?? undefined;
  };
  /** @type {ResizeObserver | undefined} */
  sizes;
  again = () => this.make();
  stop = () => {};

  componentDidMount() {
    const place = /** @type {HTMLElement} */ (this.place);
    this.sizes = new ResizeObserver(() => this.plot?.setSize({ width: place.clientWidth, height: HEIGHT }));
    this.sizes.observe(place);
    document.addEventListener('change', this.again); // the switches of theme and language
    for (const scheme of schemes) scheme.addEventListener('change', this.again);
    this.make();
    const drawing = effect(() => {
      void zoom.value;
      this.draw();
    });
    const pointing = effect(() => {
      void cursor.value;
      this.point();
    });
    this.stop = () => [drawing, pointing].forEach((stop) => stop());
  }

  componentDidUpdate() {
    this.draw();
  }

  componentWillUnmount() {
    this.stop();
    this.sizes?.disconnect();
    document.removeEventListener('change', this.again);
    for (const scheme of schemes) scheme.removeEventListener('change', this.again);
    this.plot?.destroy();
  }

  draw() {
    this.plot?.setData(this.data());
    this.point();
  }

  data() {
    const { samples, lines } = this.props;
    const values = (/** @type {Line} */ { key }) => samples.map((/** @type {Sample} */ sample) => sample.values[key] ?? null);
    return [samples.map((/** @type {Sample} */ sample) => sample.at), ...lines.map(values)];
  }

  /** @returns {Span} */
  span() {
    return zoom.peek() ?? this.props.whole;
  }

  /** Draw the cursor where it is, and tell it. */
  point() {
    const { samples, lines, format = formatNumber } = this.props;
    const at = cursor.peek();
    const index = nearest(samples, at);
    const sample = samples[index];
    const place = /** @type {HTMLElement} */ (this.place);
    const is = at !== undefined && sample;
    this.plot?.setCursor({ left: is ? this.plot.valToPos(sample.at, 'x') : -10, top: is ? 1 : -10 }, false);
    const told = (/** @type {Line} */ { key, label }) => `${label} ${said(sample.values[key], format)}`;
    // Without a cursor it would be said anew each second.
    place.setAttribute('aria-valuetext', is ? `${clock(sample.at, true)}: ${lines.map(told).join(', ')}` : t('admin.chart.keys'));
    place.setAttribute('aria-valuemax', String(Math.max(0, samples.length - 1)));
    place.setAttribute('aria-valuenow', String(Math.max(0, index)));
  }

  /** @param {KeyboardEvent} event */
  onKey = (event) => {
    const { samples, whole } = this.props;
    if (event.ctrlKey || event.altKey || event.metaKey || !samples.length) return;
    const { from, to } = this.span();
    const [first, last] = [nearest(samples, from), nearest(samples, to)];
    const index = Math.min(Math.max(nearest(samples, cursor.peek()), first), last);
    const page = Math.max(1, Math.round((last - first) / 10));
    /** @type {Record<string, number>} */
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page, Home: -Infinity, End: Infinity };
    if (event.key in steps) cursor.value = samples[Math.min(Math.max(index + steps[event.key], first), last)].at;
    else if (event.key === '+' || event.key === '=') zoomBy(0.5, whole);
    else if (event.key === '-') zoomBy(2, whole);
    else if (event.key === 'Escape' && (zoom.peek() || cursor.peek())) zoom.value = cursor.value = undefined;
    else return;
    event.preventDefault();
  };

  make() {
    const place = /** @type {HTMLElement} */ (this.place);
    this.plot?.destroy();
    const { lines, format = formatNumber } = this.props;
    const style = getComputedStyle(place);
    const color = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    const series = (/** @type {Line} */ line) => ({
      stroke: color(line.color),
      dash: DASHES[line.color],
      width: 2,
      points: { show: true, size: 4, filter: alone },
    });
    const axis = { stroke: color('--muted'), grid: { stroke: color('--border'), width: 1 }, ticks: { show: false } };
    const times = (/** @type {any} */ _, /** @type {number[]} */ at) => at.map((one) => clock(one, this.span().to - this.span().from < 150));
    const figures = (/** @type {any} */ _, /** @type {number[]} */ at) => at.map((one) => format(one));
    // @ts-ignore: uPlot is a classic script of the page
    this.plot = new uPlot(
      {
        width: place.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false, setScale: false } },
        scales: {
          x: { range: () => [this.span().from, this.span().to] },
          y: { range: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ max) => [0, max > 0 ? max * 1.15 : 1] },
        },
        axes: [{ ...axis, size: 30, space: 60, values: times }, { ...axis, size: 66, space: 34, values: figures }],
        series: [{}, ...lines.map(series)],
        hooks: { ready: [this.wire], setSelect: [this.select] },
      },
      this.data(),
      place,
    );
    this.point();
  }

  wire = (/** @type {any} */ plot) => {
    plot.over.addEventListener('mousemove', (/** @type {MouseEvent} */ { offsetX }) => {
      cursor.value = plot.data[0][plot.posToIdx(offsetX)];
    });
    plot.over.addEventListener('mouseleave', forgetCursor);
  };

  select = (/** @type {any} */ plot) => {
    const { left, width } = plot.select;
    if (!width) return;
    const [from, to] = [plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x')];
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (width > 4) zoom.value = zoomed({ from, to }, 1, (from + to) / 2, this.props.whole);
  };

  /** @param {any} props */
  render({ title, lines, samples, format = formatNumber }) {
    return html`
      <figure class="card chart">
        <figcaption>
          <h3>${title}</h3>
          <${Legend} lines=${lines} samples=${samples} format=${format} />
        </figcaption>
        <div class="plot" role="slider" tabindex="0" aria-label=${title} aria-valuemin="0" aria-valuenow="0" onKeyDown=${this.onKey} onBlur=${forgetCursor} ref=${this.keep}></div>
      </figure>
    `;
  }
}

function forgetCursor() {
  cursor.value = undefined;
}

/** The samples of a series that no line leads to: they are drawn as points. @param {any} plot @param {number} line */
function alone(plot, line) {
  const values = plot.data[line];
  const isOne = (/** @type {number | null} */ value, /** @type {number} */ at) => value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null;
  return values.flatMap((/** @type {number | null} */ value, /** @type {number} */ at) => (isOne(value, at) ? [at] : []));
}

/** Their changes bring other colours. */
const schemes = ['(prefers-color-scheme: dark)', '(prefers-contrast: more)', '(forced-colors: active)'].map((query) =>
  matchMedia(query),
);
