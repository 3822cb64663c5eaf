/** Messages: a composer, and what is stored, the newest first and following while new ones come. */
import { api, apiPage } from '../api.js';
import { fieldError } from '../forms.js';
import { formatNumber, t } from '../i18n.js';
import { announce } from '../page.js';
import { checkChannel, checkJson } from '../rules.js';
import { stats } from './stream.js';
import { Action, brief, Component, Field, fieldOf, Form, html, List, live, moments, pages, signal, valueOf } from './ui.js';

const channel = signal('');
const follows = signal(true);
const result = signal('');
let seen = 0;

const list = pages(() => {
  const query = new URLSearchParams({ limit: '50' });
  if (channel.peek()) query.set('channel', channel.peek());
  return `api/messages?${query}`;
}, apiPage, isLong);

/** Whether its content is more than a line. @param {any} row */
function isLong({ content }) {
  return brief(content).endsWith('…');
}

/** @param {HTMLFormElement} form */
function check(form) {
  checkChannel(fieldOf(form, 'channel'));
  if (valueOf(form, 'channel') && valueOf(form, 'to')) fieldError(fieldOf(form, 'to'), () => t('admin.compose.oneTarget'));
  if (valueOf(form, 'format') === 'json') checkJson(fieldOf(form, 'body'));
}

/** @param {HTMLFormElement} form */
async function send(form) {
  const query = new URLSearchParams();
  for (const name of ['channel', 'event', 'to']) if (valueOf(form, name)) query.set(name, valueOf(form, name));
  const text = fieldOf(form, 'body').value;
  result.value = '';
  const { recipientCount, message } = await api(
    'POST',
    `api/broadcast?${query}`,
    valueOf(form, 'format') === 'text' ? text : JSON.parse(text),
  );
  result.value = t('send.sent', { count: recipientCount, id: String(message.id) });
  announce(result.value);
  if (list.isFirst()) void list.refresh();
}

const Composer = live(
  () => html`
    <${Form} id="compose" class="card stack" aria-labelledby="compose-title" check=${check} send=${send}>
      <h2 id="compose-title">${t('send.title')}</h2>
      <div class="pair">
        <${Field} id="compose-channel" label=${t('send.channel')} optional>
          <input id="compose-channel" name="channel" autocomplete="off" spellcheck="false" maxlength="128" aria-describedby="compose-channel-error" />
        </>
        <${Field} id="compose-event" label=${t('send.event')} optional>
          <input id="compose-event" name="event" autocomplete="off" spellcheck="false" maxlength="128" aria-describedby="compose-event-error" />
        </>
        <${Field} id="compose-to" label=${t('admin.compose.to')} optional>
          <input id="compose-to" name="to" autocomplete="off" spellcheck="false" maxlength="64" aria-describedby="compose-to-error" />
        </>
        <${Field} id="compose-format" label=${t('send.format')}>
          <select id="compose-format" name="format">
            <option value="json">${t('send.json')}</option>
            <option value="text">${t('send.text')}</option>
          </select>
        </>
      </div>
      <${Field} id="compose-body" label=${t('send.body')}>
        <textarea id="compose-body" name="body" rows="4" spellcheck="false" class="mono" aria-describedby="compose-body-error"></textarea>
      </>
      <div class="form-error"></div>
      <div class="row"><button class="primary">${t('send.button')}</button><p class="hint">${result.value}</p></div>
    </>
  `,
);

/** What is more than a line opens; then no new messages push it off the page. */
class Content extends Component {
  /** @param {any} props @param {any} state the message that is open: the element may show another's later */
  render({ id, content }, { open }) {
    const short = html`<code>${brief(content)}</code>`;
    if (!isLong({ content })) return short;
    const onToggle = (/** @type {any} */ { target }) => {
      this.setState({ open: target.open ? id : undefined });
      if (target.open) follows.value = false;
    };
    return html`
      <details open=${open === id} onToggle=${onToggle}>
        <summary>${short}</summary>
        ${open === id && html`<pre>${JSON.stringify(content, null, 2)}</pre>`}
      </details>
    `;
  }
}

/** @type {import('./ui.js').Column[]} */
const COLUMNS = [
  ['admin.messages.number', ({ id }) => id, ({ id }) => id, 'num'],
  moments('admin.time', 'sentAt'),
  ['send.channel', (row) => html`<span class=${row.channel && 'badge'} title=${row.channel}>${row.channel ?? t('admin.messages.everybody')}</span>`, (row) => row.channel, 'names'],
  ['send.event', ({ event }) => html`<span class=${event && 'badge accent'} title=${event}>${event ?? '–'}</span>`, ({ event }) => event, 'names'],
  ['admin.messages.content', (row) => html`<${Content} ...${row} />`, null, 'wide'],
  ['admin.messages.receivers', ({ recipientCount }) => formatNumber(recipientCount), ({ recipientCount }) => recipientCount, 'num'],
];

/** @param {any} event */
function onChannel({ target }) {
  if (!checkChannel(target)) return;
  channel.value = target.value.trim();
  void list.first();
}

function onFollow() {
  follows.value = !follows.peek();
  if (follows.peek()) void list.first();
}

export const Messages = live(
  () => html`
    <${Composer} />
    <section class="card stack" aria-labelledby="stored-title">
      <h2 id="stored-title">${t('admin.messages.stored')}</h2>
      <div class="filters">
        <${Field} id="message-channel" label=${t('send.channel')}>
          <input id="message-channel" type="search" value=${channel.peek()} onChange=${onChannel} spellcheck="false" placeholder=${t('admin.all')} aria-describedby="message-channel-error" />
        </>
        <button type="button" aria-pressed=${String(follows.value)} onClick=${onFollow}>${t('admin.follow')}</button>
        <${Action} act=${list.refresh}>${t('admin.refresh')}</>
      </div>
      <${List} of=${list} name="messages" label=${t('admin.messages.stored')} columns=${COLUMNS} empty=${t('admin.messages.none')} />
    </section>
  `,
);

export const enter = list.first;

/** When new messages were stored, and nobody reads an older page. */
export function look() {
  const head = stats.peek()?.head ?? 0;
  if (!follows.peek() || head === seen || !list.isFirst() || list.state.peek().busy) return;
  seen = head;
  void list.refresh();
}

export const leave = list.forget;
