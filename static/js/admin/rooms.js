/** Video rooms: make, enter, lock and end them. */
import { api, apiPage, ROOT } from '../api.js';
import { t } from '../i18n.js';
import { stats } from './stream.js';
import { Action, attempt, confirmed, Field, Form, html, List, live, moments, pages, valueOf } from './ui.js';

const list = pages(() => 'api/video/rooms?limit=50', apiPage);

/** @param {any} row */
const path = (row) => `api/video/rooms/${encodeURIComponent(row.roomId)}`;

/** @param {HTMLFormElement} form */
async function make(form) {
  const maxParticipants = Number(valueOf(form, 'maxParticipants')) || undefined;
  const password = valueOf(form, 'password') || undefined;
  const name = valueOf(form, 'name') || t('calls.defaultName');
  await api('POST', 'api/video/rooms', { name, maxParticipants, password, pinned: true });
  form.reset();
  await list.first();
}

/** @param {any} row */
async function lock(row) {
  await api('PATCH', path(row), { locked: !row.locked });
  await list.refresh();
}

/** @param {any} row */
async function end(row) {
  const text = t('admin.rooms.endText', { count: row.participantCount });
  if (!(await confirmed(t('admin.rooms.endTitle', { name: row.name }), text, t('admin.rooms.end')))) return;
  await attempt(() => api('DELETE', path(row)), () => t('admin.rooms.ended', { name: row.name }));
  await list.refresh();
}

/** @param {any} row */
const Badges = (row) => html`
  ${row.locked && html`<span class="badge warn">${t('admin.rooms.locked')}</span> `}
  ${row.hasPassword && html`<span class="badge">${t('admin.rooms.hasPassword')}</span> `}
  ${row.lobby && html`<span class="badge">${t('admin.rooms.hasLobby')}</span> `}
  ${row.pinned && html`<span class="badge">${t('admin.rooms.pinned')}</span>`}
`;

/** @param {any} row */
const Acts = (row) => html`
  <div class="row">
    <a class="button small" href=${new URL(`room/${encodeURIComponent(row.roomId)}`, ROOT).href}>${t('admin.rooms.open')}</a>
    <${Action} class="small" act=${() => lock(row)}>${t(row.locked ? 'admin.rooms.unlock' : 'admin.rooms.lock')}</>
    <button type="button" class="small danger" onClick=${() => end(row)}>${t('admin.rooms.end')}</button>
  </div>
`;

/** @type {import('./ui.js').Column[]} */
const COLUMNS = [
  ['admin.rooms.name', ({ name, roomId }) => html`<bdi>${name}</bdi><br /><code class="hint">${roomId}</code>`, ({ name }) => name, 'wide'],
  ['admin.rooms.people', ({ participantCount, maxParticipants }) => `${participantCount} / ${maxParticipants}`, ({ participantCount }) => participantCount, 'num'],
  ['admin.rooms.state', Badges],
  moments('admin.rooms.since', 'createdAt'),
  ['admin.actions', Acts],
];

export const Rooms = live(
  () => html`
    <${Form} class="card stack" aria-labelledby="room-title" send=${make} done=${() => t('admin.rooms.made')}>
      <h2 id="room-title">${t('admin.rooms.make')}</h2>
      <div class="pair">
        <${Field} id="room-name" label=${t('admin.rooms.name')} optional>
          <input id="room-name" name="name" maxlength="100" autocomplete="off" aria-describedby="room-name-error" />
        </>
        <${Field} id="room-password" label=${t('signin.password')} optional>
          <input id="room-password" name="password" maxlength="200" autocomplete="off" spellcheck="false" aria-describedby="room-password-error" />
        </>
        <${Field} id="room-size" label=${t('admin.rooms.size')} optional>
          <input id="room-size" name="maxParticipants" type="number" min="2" max="100" aria-describedby="room-size-error" />
        </>
      </div>
      <p class="hint">${t('admin.rooms.stays')}</p>
      <div class="form-error"></div>
      <div class="row"><button class="primary">${t('admin.rooms.make')}</button></div>
    </>
    <section class="card stack" aria-labelledby="rooms-title">
      <h2 id="rooms-title">${t('admin.rooms.active')}</h2>
      <${List} of=${list} name="rooms" label=${t('admin.rooms.active')} columns=${COLUMNS} empty=${t('admin.rooms.none')} />
    </section>
  `,
);

export const enter = list.first;

let seen = '';
let turns = 0;
/** When somebody came or went, and now and then for what the figures don't show. */
export function look() {
  turns += 1;
  const { activeVideoRooms = 0, videoParticipants = 0 } = stats.peek() ?? {};
  const next = `${activeVideoRooms} ${videoParticipants}`;
  if ((next === seen && turns % 5) || list.state.peek().busy) return;
  seen = next;
  void list.refresh();
}

export const leave = list.forget;
