/** System: the nodes, the database and its backup. */
import { api, ROOT } from '../api.js';
import { formatDuration, formatNumber, t } from '../i18n.js';
import { stats } from './stream.js';
import { every, formatBytes, html, List, live, moments, resource } from './ui.js';

const nodes = resource(() => api('GET', 'api/nodes'));

/** @type {import('./ui.js').Column[]} */
const COLUMNS = [
  ['admin.nodes.name', ({ name, id, current }) => html`<code>${name || id}</code> ${current && html`<span class="badge accent">${t('admin.nodes.this')}</span>`}`, ({ name, id }) => name || id],
  ['admin.nodes.connections', ({ connections }) => formatNumber(connections), ({ connections }) => connections, 'num'],
  moments('admin.nodes.started', 'startedAt'),
  moments('admin.nodes.heard', 'heartbeatAt'),
];

const Facts = live(() => {
  const now = stats.value;
  if (!now) return html`<p class="loading" role="status">${t('admin.loading')}</p>`;
  const facts = [
    [t('admin.system.version'), now.version],
    [t('admin.tile.uptime'), formatDuration(now.uptime, 'short')],
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
      <${List} of=${nodes} name="nodes" label=${t('admin.nodes.title')} columns=${COLUMNS} empty=${t('admin.nodes.none')} />
    </section>
    <${Backup} />
  `,
);

export const enter = nodes.refresh;

export const look = every(5, nodes);

export const leave = nodes.forget;
