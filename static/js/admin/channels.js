/** The busiest channels, each a way to the connections on it. */
import { apiPage } from '../api.js';
import { formatNumber, t } from '../i18n.js';
import { onChannel } from './connections.js';
import { every, html, List, live, resource } from './ui.js';

const SHOWN = 10;

const busiest = resource(() => apiPage(`api/channels?limit=${SHOWN}`));

/** @type {import('./ui.js').Column[]} */
const COLUMNS = [
  ['admin.channels.name', ({ name }) => html`<a href="#connections" aria-label=${t('admin.channels.show', { name })} onClick=${() => onChannel(name)}>${name}</a>`, ({ name }) => name, 'wide'],
  ['admin.channels.listeners', ({ listeners }) => formatNumber(listeners), ({ listeners }) => listeners, 'num'],
  ['admin.channels.rate', ({ messagesLastMinute }) => formatNumber(messagesLastMinute), ({ messagesLastMinute }) => messagesLastMinute, 'num'],
];

/** How many there are beside those shown. */
const More = live(() => {
  const { total } = busiest.state.value.data ?? {};
  return total > SHOWN && html`<p class="hint">${t('admin.channels.more', { count: total })}</p>`;
});

export const Channels = live(
  () => html`
    <section class="card stack channels" aria-labelledby="channels-title">
      <h2 id="channels-title">${t('admin.channels.title')}</h2>
      <p class="hint">${t('admin.channels.lead')}</p>
      <${List} of=${busiest} name="channels" label=${t('admin.channels.title')} columns=${COLUMNS} empty=${t('admin.channels.none')} />
      <${More} />
    </section>
  `,
);

export const enter = busiest.refresh;

/** As often as the server counts anew. */
export const look = every(5, busiest);

export const leave = busiest.forget;
