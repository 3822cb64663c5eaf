/** Overview: the figures of this moment, and charts of the last minutes or hours. */
import { formatNumber, t } from '../i18n.js';
import * as channels from './channels.js';
import { Chart, cursor, Where, zoom, zoomBy } from './charts.js';
import { history, minutes, recent, stats } from './stream.js';
import { every, formatBytes, html, live, Shown } from './ui.js';

/** @typedef {import('./charts.js').Line} Line */

/** Minutes that can be looked at: by the stream's seconds, then by the stored minutes. @type {[number, string][]} */
const RANGES = [
  [5, 'admin.chart.live'],
  [15, 'admin.chart.quarter'],
  [60, 'admin.chart.hour'],
  [360, 'admin.chart.hours'],
  [1440, 'admin.chart.day'],
];

/** The charts with what each draws. @type {() => { title: string, lines: Line[], format?: (value: number) => string }[]} */
const charts = () => [
  {
    title: t('admin.chart.connections'),
    lines: [
      { key: 'sse', label: t('admin.transport.sse'), color: '--accent' },
      { key: 'websocket', label: t('admin.transport.websocket'), color: '--info' },
      { key: 'socketio', label: t('admin.transport.socketio'), color: '--warn' },
    ],
  },
  { title: t('admin.chart.messages'), lines: [{ key: 'messages', label: t('admin.chart.perSecond'), color: '--accent' }], format: rate },
  { title: t('admin.chart.deliveries'), lines: [{ key: 'deliveries', label: t('admin.chart.perSecond'), color: '--accent' }], format: rate },
  {
    title: t('admin.chart.latency'),
    lines: [
      { key: 'p50', label: t('admin.chart.half'), color: '--accent' },
      { key: 'p99', label: t('admin.chart.most'), color: '--warn' },
    ],
    format: milliseconds,
  },
  { title: t('admin.chart.memory'), lines: [{ key: 'memory', label: t('admin.chart.used'), color: '--accent' }], format: formatBytes },
  { title: t('admin.chart.cpu'), lines: [{ key: 'cpu', label: t('admin.chart.core'), color: '--accent' }], format: percent },
];

/** @param {number} value */
const rate = (value) => formatNumber(value, { maximumFractionDigits: value < 10 ? 1 : 0 });

/** @param {number} value */
const percent = (value) => formatNumber(value / 100, { style: 'percent', maximumFractionDigits: value < 10 ? 1 : 0 });

/** @param {number} value */
const milliseconds = (value) =>
  formatNumber(value, { style: 'unit', unit: 'millisecond', unitDisplay: 'short', maximumFractionDigits: value < 10 ? 1 : 0 });

const Tiles = live(() => {
  const now = stats.value;
  if (!now) return html`<p class="loading" role="status">${t('admin.loading')}</p>`;
  const last = recent.value.at(-1)?.values ?? {};
  const tiles = [
    [t('admin.tile.connections'), formatNumber(now.activeConnections), 'connections'],
    [t('admin.tile.messages'), rate(last.messages ?? 0), 'messages'],
    [t('admin.tile.deliveries'), rate(last.deliveries ?? 0)],
    [t('admin.tile.sent'), formatNumber(now.messagesSent), 'messages'],
    [t('admin.tile.latency'), milliseconds(now.publishLatencyMs.p50)],
    [t('admin.tile.rooms'), formatNumber(now.activeVideoRooms), 'rooms'],
    [t('admin.tile.people'), formatNumber(now.videoParticipants), 'rooms'],
    [t('admin.tile.memory'), formatBytes(now.memoryBytes)],
    [t('admin.tile.cpu'), percent(now.cpuPercent)],
    [t('admin.tile.database'), formatBytes(now.databaseBytes), 'system'],
  ];
  return html`
    <dl class="tiles">
      ${tiles.map(
        ([name, value, section]) => html`
          <div class="card tile">
            <dt class="hint">${section ? html`<a href="#${section}">${name}</a>` : name}</dt>
            <dd class="value">${value}</dd>
          </div>
        `,
      )}
    </dl>
  `;
});

/** The time that the charts cover, in seconds. @param {import('./stream.js').Sample[]} samples @param {number} last */
function wholeOf(samples, last = samples.at(-1)?.at ?? Date.now() / 1000) {
  return { from: last - minutes.peek() * 60, to: last };
}

const Charts = live(() => {
  return minutes.value === 5
    ? html`<${Grid} samples=${recent.value} />`
    : html`<${Shown} of=${history} empty=${t('admin.chart.noDay')}>${(/** @type {any[]} */ rows) => html`<${Grid} samples=${rows} />`}</>`;
});

/** @param {any} props */
const Grid = ({ samples }) => {
  const whole = wholeOf(samples);
  return html`
    <${Zoom} whole=${whole} />
    <div class="charts">
      ${charts().map((chart) => html`<${Chart} ...${chart} samples=${samples} whole=${whole} key=${chart.title} />`)}
    </div>
  `;
};

const Zoom = live(({ whole }) => {
  const unzoom = () => (zoom.value = undefined);
  return html`
    <div class="row end">
      <${Where} whole=${whole} />
      <div class="row" role="group" aria-label=${t('admin.chart.zoom')}>
        ${zoom.value && html`<button type="button" class="small" onClick=${unzoom}>${t('admin.chart.whole')}</button>`}
        <button type="button" class="small" aria-label=${t('admin.chart.wider')} disabled=${!zoom.value} onClick=${() => zoomBy(2, whole)}>−</button>
        <button type="button" class="small" aria-label=${t('admin.chart.closer')} onClick=${() => zoomBy(0.5, whole)}>+</button>
      </div>
    </div>
  `;
});

/** @param {number} range */
function choose(range) {
  minutes.value = range;
  zoom.value = cursor.value = undefined;
  history.forget();
  void again();
}

const Ranges = live(
  () => html`
    <div class="row" role="group" aria-label=${t('admin.chart.range')}>
      ${RANGES.map(([range, name]) => html`<button type="button" class="small" aria-pressed=${String(minutes.value === range)} onClick=${() => choose(range)}>${t(name)}</button>`)}
    </div>
  `,
);

export const Overview = live(
  () => html`
    <${Tiles} />
    <section class="stack over-time" aria-labelledby="charts-title">
      <div class="row end">
        <h2 id="charts-title">${t('admin.chart.title')}</h2>
        <${Ranges} />
      </div>
      <${Charts} />
    </section>
    <${channels.Channels} />
  `,
);

/** Of stored minutes the last one is told a minute later. */
const again = () => (minutes.peek() === 5 ? undefined : history.refresh());

export const enter = () => Promise.all([channels.enter(), again()]);

const lookBack = every(60, { ...history, refresh: again });
export function look() {
  lookBack();
  channels.look();
}

export const leave = channels.leave;
