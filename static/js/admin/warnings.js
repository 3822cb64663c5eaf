/** What an administrator should look at: the server's rules (`warnings` of the statistics) in words. */
import { formatNumber, t } from '../i18n.js';
import { showLevel } from './logs.js';
import { stats } from './stream.js';
import { formatBytes, html, live, signal } from './ui.js';

/** @typedef {import('./stream.js').Stats} Stats */
/** @typedef {{ kind: string, value?: number, node?: string }} Rule what a rule of the server has found */
/** @typedef {{ id: string, text: string, section: string, go?: () => void }} Warning */

/** @type {Record<string, (found: Required<Rule>, now: Stats) => Warning>} */
const WORDS = {
  connections({ value, node }, { maxConnections: most }) {
    const percent = formatNumber(Math.floor(value * 100) / 100, { style: 'percent' });
    return { id: `full ${node}`, text: t('admin.warn.connections', { node, percent, most }), section: 'connections' };
  },
  // One that is put away comes back with the next error.
  errors: ({ value }, { errors }) => ({
    ...{ id: `errors ${errors}`, text: t('admin.warn.errors', { count: value }) },
    ...{ section: 'logs', go: () => showLevel('ERROR') },
  }),
  disk: ({ value }) => ({ id: 'disk', text: t('admin.warn.disk', { size: formatBytes(value) }), section: 'system' }),
  wal: ({ value }) => ({ id: 'wal', text: t('admin.warn.wal', { size: formatBytes(value) }), section: 'system' }),
  node: ({ node }) => ({ id: `gone ${node}`, text: t('admin.warn.node', { node }), section: 'system' }),
};

/** A newer server may know more kinds. @param {Stats} now @returns {Warning[]} */
export const warnings = (now) =>
  (now.warnings ?? []).flatMap((/** @type {Rule} */ found) => WORDS[found.kind]?.({ value: 0, node: '', ...found }, now) ?? []);

/** Those that the reader has put away. @type {import('./ui.js').Signal<string[]>} */
const hidden = signal([]);

/** Its title is said aloud, once; the figures below change with each second. */
export const Warnings = live(() => {
  const now = stats.value;
  const found = now ? warnings(now).filter(({ id }) => !hidden.value.includes(id)) : [];
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
