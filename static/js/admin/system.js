/** System: the nodes, the database and its backup. */
import { api, errorFrom, ROOT } from '../api.js';
import { formatNumber, t } from '../i18n.js';
import { saveFile } from '../page.js';
import { stats } from './stream.js';
import { attempt, formatAge, formatBytes, html, live, Moment, resource, Shown, signal, Table } from './ui.js';

const nodes = resource(() => api('GET', 'api/nodes'));
/** Bytes of the backup that have come; undefined when none is on its way. @type {import('./ui.js').Signal<number | undefined>} */
const taken = signal(undefined);

async function backup() {
  if (taken.peek() !== undefined) return;
  taken.value = 0;
  await attempt(download, () => t('admin.backup.done'));
  taken.value = undefined;
}

async function download() {
  const response = await fetch(new URL('api/backup', ROOT), { cache: 'no-store' });
  if (!response.ok) throw await errorFrom(response);
  const [, name] = /filename="([^"]+)"/.exec(response.headers.get('Content-Disposition') ?? '') ?? [];
  const counter = new TransformStream({
    transform(part, out) {
      taken.value = (taken.peek() ?? 0) + part.byteLength;
      out.enqueue(part);
    },
  });
  const blob = await new Response(response.body?.pipeThrough(counter)).blob();
  saveFile(blob, name ?? 'rtapp.db');
}

/** @param {any} row */
const Row = (row) => html`
  <tr key=${row.id}>
    <th scope="row"><code>${row.name || row.id}</code> ${row.current && html`<span class="badge accent">${t('admin.nodes.this')}</span>`}</th>
    <td class="num">${formatNumber(row.connections)}</td>
    <td><${Moment} at=${row.startedAt} /></td>
    <td><${Moment} at=${row.heartbeatAt} /></td>
  </tr>
`;

/** @type {() => import('./ui.js').Head[]} */
const heads = () => [
  [t('admin.nodes.name'), ({ name, id }) => name || id],
  [t('admin.nodes.connections'), ({ connections }) => connections],
  [t('admin.nodes.started'), ({ startedAt }) => Date.parse(startedAt)],
  [t('admin.nodes.heard'), ({ heartbeatAt }) => Date.parse(heartbeatAt)],
];

const Facts = live(() => {
  const now = stats.value;
  if (!now) return html`<p class="loading" role="status">${t('admin.loading')}</p>`;
  const facts = [
    [t('admin.system.version'), now.version],
    [t('admin.tile.uptime'), formatAge(now.uptime)],
    [t('admin.system.messages'), formatNumber(now.messagesSent)],
    [t('admin.system.deliveries'), formatNumber(now.deliveries)],
    [t('admin.system.bytes'), formatBytes(now.bytesSent)],
    [t('admin.tile.database'), formatBytes(now.databaseBytes)],
  ];
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
});

const Backup = live(() => {
  const bytes = taken.value;
  const busy = bytes !== undefined;
  const whole = stats.value?.databaseBytes;
  return html`
    <section class="card stack" aria-labelledby="backup-title">
      <h2 id="backup-title">${t('admin.backup.title')}</h2>
      <p>${t('admin.backup.text')}</p>
      ${
        busy &&
        html`<div class="stack narrow-gap" role="status">
          <progress max=${whole ?? 1} value=${whole ? Math.min(bytes, whole) : undefined} aria-label=${t('admin.backup.title')}></progress>
          <p class="hint">${t('admin.backup.taken', { size: formatBytes(bytes) })}</p>
        </div>`
      }
      <div class="row"><button type="button" class="primary" aria-disabled=${busy ? 'true' : undefined} onClick=${backup}>${t('admin.backup.button')}</button></div>
    </section>
  `;
});

export const System = live(
  () => html`
    <section class="card stack" aria-labelledby="server-title">
      <h2 id="server-title">${t('admin.system.server')}</h2>
      <${Facts} />
    </section>
    <section class="card stack" aria-labelledby="nodes-title">
      <h2 id="nodes-title">${t('admin.nodes.title')}</h2>
      <p class="hint">${t('admin.nodes.lead')}</p>
      <${Shown} of=${nodes} empty=${t('admin.nodes.none')}>
        ${(/** @type {any[]} */ rows) => html`
          <${Table} name="nodes" label=${t('admin.nodes.title')} heads=${heads()} numbers=${[1]} rows=${rows} draw=${Row} />
        `}
      </>
    </section>
    <${Backup} />
  `,
);

export const enter = nodes.refresh;

let turns = 0;
export function look() {
  turns += 1;
  if (turns % 5 === 0 && !nodes.state.peek().busy) void nodes.refresh();
}

export const leave = nodes.forget;
