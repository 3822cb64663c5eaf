/** What an administrator should look at, by rules over what the statistics say. */
import { formatNumber, t } from '../i18n.js';
import { showLevel } from './logs.js';
import { past, stats } from './stream.js';
import { formatBytes, html, live, signal } from './ui.js';

const FULL = 0.9; // of the connections that a node takes
const DISK = 1e9; // bytes
const WAL = 268_435_456; // bytes; as `doctor`

/** @typedef {import('./stream.js').Stats} Stats */
/** @typedef {{ id: string, text: string, section: string, go?: () => void }} Warning */

/**
 * @param {Stats} now
 * @param {Stats[]} before the last five minutes
 * @returns {Warning[]}
 */
export function warnings(now, before) {
  /** @type {Warning[]} */
  const found = [];
  const { maxConnections, diskFreeBytes, walBytes, nodes = [] } = now;
  for (const { node, connections } of nodes) {
    const share = connections / maxConnections;
    if (share >= FULL) {
      const percent = formatNumber(Math.floor(share * 100) / 100, { style: 'percent' });
      found.push({ id: `full ${node}`, text: t('admin.warn.connections', { node, percent, most: maxConnections }), section: 'connections' });
    }
  }
  const own = before.filter((row) => row.nodes?.[0]?.node === nodes[0]?.node && row.errors <= now.errors);
  const errors = own.length ? now.errors - own[0].errors : 0;
  if (errors) found.push({ id: `errors ${now.errors}`, text: t('admin.warn.errors', { count: errors }), section: 'logs', go: () => showLevel('ERROR') });
  if (diskFreeBytes < DISK) found.push({ id: 'disk', text: t('admin.warn.disk', { size: formatBytes(diskFreeBytes) }), section: 'system' });
  if (walBytes > WAL) found.push({ id: 'wal', text: t('admin.warn.wal', { size: formatBytes(walBytes) }), section: 'system' });
  const here = new Set(nodes.map((/** @type {any} */ { node }) => node));
  const were = new Set(before.flatMap((row) => (row.nodes ?? []).map((/** @type {any} */ { node }) => node)));
  for (const node of were) if (!here.has(node)) found.push({ id: `gone ${node}`, text: t('admin.warn.node', { node }), section: 'system' });
  return found;
}

/** Those that the reader has put away. @type {import('./ui.js').Signal<string[]>} */
const hidden = signal([]);

/** Its title is said aloud, once; the figures below change with each second. */
export const Warnings = live(() => {
  const now = stats.value;
  const found = now ? warnings(now, past()).filter(({ id }) => !hidden.value.includes(id)) : [];
  return html`
    <div role="status" class="visually-hidden">${found.length > 0 && t('admin.warn.title', { count: found.length })}</div>
    ${
      found.length > 0 &&
      html`
        <section class="banner warn warnings" aria-label=${t('admin.warn.title', { count: found.length })}>
          <p class="title">${t('admin.warn.title', { count: found.length })}</p>
          <ul class="body">
            ${found.map(({ id, text, section, go }) => html`<li key=${id}><a href="#${section}" onClick=${go}>${text}</a></li>`)}
          </ul>
          <button type="button" class="small" onClick=${() => (hidden.value = [...hidden.peek(), ...found.map(({ id }) => id)].slice(-100))}>${t('admin.warn.hide')}</button>
        </section>
      `
    }
  `;
});
