/** Charts over time: uPlot in the page's colours and the reader's language. */
import { Component } from '../../vendor/preact/preact.mjs';
import { formatDate, formatNumber } from '../i18n.js';
import { html } from './ui.js';

/** @typedef {{ key: string, label: string, color: string }} Line `color` is a custom property of the theme */

const HEIGHT = 170;
/** Lines are told apart without their colours, too. @type {Record<string, number[]>} */
const DASHES = { '--info': [8, 4], '--warn': [3, 3] };

/** @param {number} at seconds */
const clock = (at) => formatDate(at * 1000, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });

/**
 * Lines over the time that `samples` cover. Its figures stand in words below it, also for whoever
 * doesn't see it.
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

  componentDidMount() {
    const place = /** @type {HTMLElement} */ (this.place);
    this.sizes = new ResizeObserver(() => this.plot?.setSize({ width: place.clientWidth, height: HEIGHT }));
    this.sizes.observe(place);
    document.addEventListener('change', this.again); // the switches of theme and language
    for (const scheme of schemes) scheme.addEventListener('change', this.again);
    this.make();
  }

  componentDidUpdate() {
    this.plot?.setData(this.data());
  }

  componentWillUnmount() {
    this.sizes?.disconnect();
    document.removeEventListener('change', this.again);
    for (const scheme of schemes) scheme.removeEventListener('change', this.again);
    this.plot?.destroy();
  }

  data() {
    const { samples, lines } = this.props;
    const values = (/** @type {Line} */ { key }) => samples.map((/** @type {any} */ sample) => sample.values[key]);
    return [samples.map((/** @type {any} */ sample) => sample.at), ...lines.map(values)];
  }

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
      points: { show: false },
    });
    const axis = { stroke: color('--muted'), grid: { stroke: color('--border'), width: 1 }, ticks: { show: false } };
    const times = (/** @type {any} */ _, /** @type {number[]} */ at) => at.map(clock);
    const figures = (/** @type {any} */ _, /** @type {number[]} */ at) => at.map((one) => format(one));
    // @ts-ignore: uPlot is a classic script of the page
    this.plot = new uPlot(
      {
        width: place.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        select: { show: false },
        scales: { y: { range: (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ max) => [0, max > 0 ? max * 1.15 : 1] } },
        axes: [{ ...axis, size: 30, space: 50, values: times }, { ...axis, size: 66, space: 34, values: figures }],
        series: [{}, ...lines.map(series)],
      },
      this.data(),
      place,
    );
  }

  /** @param {any} props */
  render({ title, lines, samples, format = formatNumber }) {
    const last = samples.at(-1)?.values;
    return html`
      <figure class="card chart">
        <figcaption>
          <h3>${title}</h3>
          <p class="row legend">
            ${lines.map(
              (/** @type {Line} */ line) => html`
                <span class="key"><i class=${`swatch ${line.color.slice(2)}`}></i>${line.label}${' '}<b>${last ? format(last[line.key]) : '–'}</b></span>
              `,
            )}
          </p>
        </figcaption>
        <div class="plot" aria-hidden="true" ref=${this.keep}></div>
      </figure>
    `;
  }
}

/** Their changes bring other colours. */
const schemes = ['(prefers-color-scheme: dark)', '(prefers-contrast: more)', '(forced-colors: active)'].map((query) =>
  matchMedia(query),
);
