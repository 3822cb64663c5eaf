/** Overview: the figures of this moment, and charts of the last five minutes or the last day. */
import { formatNumber, t } from '../i18n.js';
import * as channels from './channels.js';
import { Chart } from './charts.js';
import { day, recent, stats } from './stream.js';
import { computed, formatBytes, html, live, signal, Shown } from './ui.js';

/** @typedef {import('./charts.js').Line} Line */

const isLong = signal(false);

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
          <div class="tile">
            <dt class="name">${section ? html`<a href="#${section}">${name}</a>` : name}</dt>
            <dd class="value">${value}</dd>
          </div>
        `,
      )}
    </dl>
  `;
});

/** Empty spans at its start keep five minutes five minutes wide. */
const lastMinutes = computed(() => {
  const samples = recent.value;
  const last = samples.at(-1);
  if (!last || last.at - samples[0].at > 290) return samples;
  return [{ at: last.at - 300, values: {} }, ...samples];
});

const Charts = live(() => {
  const long = isLong.value;
  return long
    ? html`<${Shown} of=${day} empty=${t('admin.chart.noDay')}>${(/** @type {any[]} */ rows) => html`<${Grid} samples=${rows} />`}</>`
    : html`<${Grid} samples=${lastMinutes.value} />`;
});

/** @param {any} props */
const Grid = ({ samples }) => html`
  <div class="charts">
    ${charts().map((chart) => html`<${Chart} ...${chart} samples=${samples} key=${chart.title} />`)}
  </div>
`;

export const Overview = live(() => {
  const choose = (/** @type {boolean} */ value) => {
    isLong.value = value;
    if (value) void day.refresh();
  };
  return html`
    <${Tiles} />
    <div class="row end">
      <h2>${t('admin.chart.title')}</h2>
      <div class="row" role="group" aria-label=${t('admin.chart.range')}>
        <button type="button" class="small" aria-pressed=${String(!isLong.value)} onClick=${() => choose(false)}>${t('admin.chart.live')}</button>
        <button type="button" class="small" aria-pressed=${String(isLong.value)} onClick=${() => choose(true)}>${t('admin.chart.day')}</button>
      </div>
    </div>
    <${Charts} />
    <${channels.Channels} />
  `;
});

/** A day's last minute is told a minute later. */
const again = () => (isLong.peek() ? day.refresh() : undefined);

export const enter = () => Promise.all([channels.enter(), again()]);

let turns = 0;
export function look() {
  turns += 1;
  if (turns % 60 === 0) void again();
  channels.look();
}

export const leave = channels.leave;
