/** The busiest channels, each a way to the connections on it. */
import { apiPage } from '../api.js';
import { formatNumber, t } from '../i18n.js';
import { onChannel } from './connections.js';
import { every, html, live, resource, Shown, Table } from './ui.js';

const SHOWN = 10;

const busiest = resource(() => apiPage(`api/channels?limit=${SHOWN}`));

/** @param {any} row */
const Row = (row) => html`
  <tr key=${row.name}>
    <th scope="row"><a href="#connections" aria-label=${t('admin.channels.show', { name: row.name })} onClick=${() => onChannel(row.name)}>${row.name}</a></th>
    <td class="num">${formatNumber(row.listeners)}</td>
    <td class="num">${formatNumber(row.messagesLastMinute)}</td>
  </tr>
`;

/** @type {() => import('./ui.js').Head[]} */
const heads = () => [
  [t('admin.channels.name'), ({ name }) => name],
  [t('admin.channels.listeners'), ({ listeners }) => listeners],
  [t('admin.channels.rate'), ({ messagesLastMinute }) => messagesLastMinute],
];

export const Channels = live(
  () => html`
    <section class="card stack channels" aria-labelledby="channels-title">
      <h2 id="channels-title">${t('admin.channels.title')}</h2>
      <p class="hint">${t('admin.channels.lead')}</p>
      <${Shown} of=${busiest} empty=${t('admin.channels.none')}>
        ${(/** @type {any} */ { rows, total }) => html`
          <${Table} name="channels" label=${t('admin.channels.title')} heads=${heads()} numbers=${[1, 2]} rows=${rows} draw=${Row} />
          ${total > SHOWN && html`<p class="hint">${t('admin.channels.more', { count: total })}</p>`}
        `}
      </>
    </section>
  `,
);

export const enter = busiest.refresh;

/** As often as the server counts anew. */
export const look = every(5, busiest);

export const leave = busiest.forget;
