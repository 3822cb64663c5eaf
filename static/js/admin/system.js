/** System: the nodes, the database and its backup. */
import { api, ROOT } from '../api.js';
import { formatNumber, t } from '../i18n.js';
import { stats } from './stream.js';
import { every, formatAge, formatBytes, html, live, Moment, resource, Shown, Table } from './ui.js';

const nodes = resource(() => api('GET', 'api/nodes'));
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

/** A link like any other: the browser stores what comes while it comes, and shows how far it is. */
const Backup = live(() => {
  const isSqlite = stats.value?.walBytes !== null;
  return html`
    <section class="card stack" aria-labelledby="backup-title">
      <h2 id="backup-title">${t('admin.backup.title')}</h2>
      <p>${t(isSqlite ? 'admin.backup.text' : 'admin.backup.pgDump')}</p>
      ${isSqlite && html`<div class="row"><a class="button primary" href=${new URL('api/backup', ROOT).href} download>${t('admin.backup.button')}</a></div>`}
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

export const look = every(5, nodes);

export const leave = nodes.forget;
