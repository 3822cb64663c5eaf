/** The dashboard: who may see it, its sections, and what each asks for while it is looked at. */
import './account.js';
import * as connections from './admin/connections.js';
import * as logs from './admin/logs.js';
import * as messages from './admin/messages.js';
import * as overview from './admin/overview.js';
import * as people from './admin/people.js';
import * as rooms from './admin/rooms.js';
import * as settings from './admin/settings.js';
import { closeStream, LinkState, LostBanner, openStream, stats } from './admin/stream.js';
import * as system from './admin/system.js';
import { effect, html, live, render, signal } from './admin/ui.js';
import { Warnings } from './admin/warnings.js';
import { ROOT } from './api.js';
import { onLanguage, t } from './i18n.js';
import { notice } from './notices.js';
import { banner, byId, startPage } from './page.js';
import { onSession, refresh, whoIAm } from './session.js';

/**
 * A part of the dashboard. It asks when it is `enter`ed, looks again each second, and forgets.
 * @typedef {object} Section
 * @property {string} id
 * @property {string} title
 * @property {any} view
 * @property {{ enter?: () => unknown, look?: () => unknown, leave?: () => unknown }} part
 */

/** @type {Section[]} */
const SECTIONS = [
  { id: 'overview', title: 'admin.nav.overview', view: overview.Overview, part: overview },
  { id: 'connections', title: 'admin.nav.connections', view: connections.Connections, part: connections },
  { id: 'messages', title: 'admin.nav.messages', view: messages.Messages, part: messages },
  { id: 'rooms', title: 'admin.nav.rooms', view: rooms.Rooms, part: rooms },
  { id: 'logs', title: 'admin.nav.logs', view: logs.Logs, part: logs },
  { id: 'people', title: 'admin.nav.people', view: people.People, part: people },
  { id: 'settings', title: 'admin.nav.settings', view: settings.Settings, part: settings },
  { id: 'system', title: 'admin.nav.system', view: system.System, part: system },
];

const named = () => SECTIONS.find(({ id }) => id === location.hash.slice(1));
const section = signal(named() ?? SECTIONS[0]);
/** Whether an administrator is here; undefined until it is known. @type {import('./admin/ui.js').Signal<boolean | undefined>} */
const isAllowed = signal(undefined);

// ---- what is shown ---------------------------------------------------------------------------

/** How much was typed in the settings and isn't saved. */
const Unsaved = live(() => {
  const count = Object.keys(settings.drafts.value).length;
  return count > 0 && html`${' '}<span class="badge warn" title=${t('admin.settings.unsaved', { count })}>${count}<span class="visually-hidden">${' '}${t('admin.settings.unsaved', { count })}</span></span>`;
});

const Menu = live(
  () => html`
    ${SECTIONS.map(
      ({ id, title }) => html`<a href="#${id}" aria-current=${id === section.value.id ? 'true' : undefined}>${t(title)}${id === 'settings' && html`<${Unsaved} />`}</a>`,
    )}
  `,
);

const Refused = live(() => {
  const me = whoIAm();
  const isSomebody = me?.authenticated;
  return html`
    <section class="card stack narrow">
      <h2>${t(isSomebody ? 'admin.gate.notAdmin' : 'admin.gate.title')}</h2>
      <p>${t(isSomebody ? 'admin.gate.notAdminText' : 'admin.gate.text')}</p>
      <div class="row"><a class="button primary" href=${new URL('?to=admin', ROOT).href}>${t(isSomebody ? 'nav.home' : 'signin.button')}</a></div>
    </section>
  `;
});

const App = live(() => {
  if (isAllowed.value === undefined) return html`<p class="loading" role="status">${t('admin.loading')}</p>`;
  if (!isAllowed.value) return html`<${Refused} />`;
  const { id, title, view } = section.value;
  return html`
    <div class="dashboard">
      <nav class="side" aria-label=${t('admin.sections')}><${Menu} /></nav>
      <div class="stack content">
        <div class="row end">
          <h1 id="section-title" tabindex="-1">${t(title)}</h1>
          <div class="row">
            <button type="button" id="palette" class="small" aria-keyshortcuts="Control+K Meta+K" onClick=${palette}>${t('admin.palette.button')} <kbd>${isApple ? '⌘ K' : 'Ctrl K'}</kbd></button>
            <${LinkState} />
          </div>
        </div>
        <${LostBanner} />
        <${Warnings} />
        <${view} key=${id} />
      </div>
    </div>
  `;
});

const isApple = /Mac|iPhone|iPad/.test(navigator.platform);

async function palette() {
  try {
    const { openPalette } = await import('./admin/palette.js');
    await openPalette(SECTIONS);
  } catch {
    notice('act', () => banner('warn', t('error.unreachable')));
  }
}

// ---- what is asked ---------------------------------------------------------------------------

function go() {
  const before = section.peek();
  const next = named() ?? (location.hash ? before : SECTIONS[0]); // a link within the page names no section
  if (next === before) return;
  before.part.leave?.();
  notice('act'); // what was done there
  section.value = next;
  nameTab();
  if (isAllowed.peek()) void next.part.enter?.();
  requestAnimationFrame(() => {
    byId('section-title').focus();
    scrollTo(0, 0);
    showPlace();
  });
}

/** On a phone the sections are a strip that scrolls: the one that is open is in sight. */
function showPlace() {
  const current = document.querySelector('.side [aria-current]');
  current?.scrollIntoView({ block: 'nearest', inline: 'center' });
}

function nameTab() {
  document.title = t('admin.title', { section: t(section.peek().title) });
}

/** @type {import('./session.js').SessionListener} */
function onWho(me) {
  const allowed = me?.role === 'admin';
  const before = isAllowed.peek();
  isAllowed.value = me ? allowed : before;
  if (allowed && !before) {
    openStream();
    void section.peek().part.enter?.();
    requestAnimationFrame(showPlace);
  } else if (!allowed && before && me) {
    section.peek().part.leave?.();
    settings.discard();
    closeStream();
  }
}

/** Each second's statistics are the beat: no news, no question; and none while nobody looks. */
effect(() => {
  if (stats.value) queueMicrotask(look);
});

function look() {
  if (isAllowed.peek() && document.visibilityState === 'visible') void section.peek().part.look?.();
}

function wire() {
  addEventListener('hashchange', go);
  addEventListener('keydown', (event) => {
    const isAsked = (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === 'k';
    if (!isAsked || !isAllowed.peek()) return;
    event.preventDefault(); // the browser's own search
    void palette();
  });
  addEventListener('pageshow', ({ persisted }) => persisted && location.reload());
  onSession(onWho);
  onLanguage(nameTab);
}

wire();
await startPage();
render(html`<${App} />`, byId('app'));
await refresh();
if (!whoIAm()) isAllowed.value = false;
