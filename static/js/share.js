/**
 * The panel that shares this server on the network: a switch, the link and its code, which address
 * they name, who is connected from elsewhere, and what may be in the way.
 *
 * `sharePanel(element)` fills an element; the page links `static/css/share.css`. Only administrators
 * see it: for others the element stays hidden.
 */
import { api, ApiError, ROOT } from './api.js';
import { makeCall, openCalls, roomPage } from './open-calls.js';
import { deviceName } from './agent.js';
import { changeNetwork, isFixed, mayChange, network } from './network.js';
import { formatTime, onLanguage, t } from './i18n.js';
import { closable } from './notices.js';
import { announce, banner, button, copyFrom, errorBanner, h, redraw } from './page.js';

/** @typedef {import('./network.js').Guest} Guest */
/** @typedef {import('./network.js').Network} Network */

const EVERY = 4000; // ms between two looks

/** What is known of a warning's code; the server's own words stand for a new one. @type {Record<string, string>} */
const WARNINGS = {
  no_address: 'share.warn.noAddress',
  address_gone: 'share.warn.addressGone',
  outside_constraints: 'share.warn.outside',
  vpn_default_route: 'share.warn.vpn',
  self_assigned: 'share.warn.selfAssigned',
  nothing_arrived: 'share.warn.nothingArrived',
  clock: 'share.warn.clock',
};

/** @type {Record<Network['state'], string>} */
const STATES = {
  off: 'share.state.off',
  waiting: 'share.state.waiting',
  on: 'share.state.on',
  failed: 'share.state.failed',
};

/**
 * Fill an element with the panel.
 * @param {HTMLElement} element
 * @returns {{ refresh: () => Promise<void>, stop: () => void }} `refresh` asks the server again, as after a sign-in
 */
export function sharePanel(element) {
  /** @type {Network | undefined} */
  let view;
  /** The call whose code is shown. @type {import('./open-calls.js').OpenCall | undefined} */
  let call;
  /** The one that was made here. */
  let made = '';
  /** @type {unknown} */
  let trouble;
  /** The link that was shown last: another one means that guests need the new code. */
  let shownLink = '';
  let isNew = false;
  let asksToStop = false;
  let busy = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let stopped = false;

  const title = h('h2', { id: 'share-title' });
  const toggle = h('button', { type: 'button', role: 'switch', class: 'switch', 'aria-labelledby': 'share-title' });
  const state = h('p', { class: 'hint', role: 'status' });
  const notices = h('div', { class: 'stack share-notices' });
  const way = h('div', { class: 'share-way' });
  const people = h('div', { class: 'stack share-people' });
  const own = h('details', { class: 'share-own' });
  element.classList.add('share');
  element.setAttribute('aria-labelledby', 'share-title');
  element.hidden = true;
  element.replaceChildren(h('div', { class: 'row end' }, title, toggle), state, notices, way, people, own);

  toggle.addEventListener('click', () => {
    if (!view || busy || toggle.getAttribute('aria-disabled') === 'true') return;
    if (view.share && view.connectedCount) {
      asksToStop = true;
      render();
      notices.querySelector('button')?.focus();
    } else {
      void change({ share: !view.share });
    }
  });
  onLanguage(render);
  document.addEventListener('visibilitychange', onVisible);

  function onVisible() {
    if (!document.hidden && !stopped && !element.hidden) void refresh();
  }

  async function refresh() {
    clearTimeout(timer);
    if (stopped) return;
    try {
      const answer = await network();
      const own = made && (await api('GET', `api/video/rooms/${made}`).catch(() => undefined));
      const running = (await openCalls()).find(({ participantCount }) => participantCount !== 0);
      if (stopped) return;
      call = own || running;
      take(answer);
    } catch (error) {
      if (error instanceof ApiError && [401, 403].includes(error.status)) {
        element.hidden = true;
        view = undefined;
        return; // until somebody signs in
      }
      trouble = error;
      render();
    }
    timer = setTimeout(() => (document.hidden ? undefined : refresh()), EVERY);
  }

  /** @param {Network} answer */
  function take(answer) {
    view = answer;
    trouble = undefined;
    const link = answer.link ?? '';
    if (link && shownLink && link !== shownLink) {
      isNew = true;
      announce(t('share.newLink'));
    }
    shownLink = link || shownLink;
    element.hidden = false;
    render();
  }

  /** @param {{ share?: boolean, address?: string | null }} wish */
  async function change(wish) {
    busy = true;
    asksToStop = false;
    render();
    try {
      if (wish.address !== undefined || wish.share) shownLink = '';
      isNew = false;
      take(await changeNetwork(wish));
    } catch (error) {
      trouble = error;
    } finally {
      busy = false;
      render();
    }
  }

  /** A part that shows nothing isn't there. @param {HTMLElement} part @param {unknown} from @param {() => (Node | undefined)[]} draw */
  function show(part, from, draw) {
    redraw(part, from, draw);
    part.hidden = !part.firstChild;
  }

  function render() {
    title.textContent = t('share.title');
    if (!view && !trouble) return;
    const seen = view;
    show(toggle, [seen?.share, busy], () => [h('span', { class: 'visually-hidden' }, t('share.title'))]);
    toggle.setAttribute('aria-checked', String(Boolean(seen?.share)));
    toggle.setAttribute('aria-disabled', String(!seen || busy || !mayChange(seen)));
    state.textContent = seen ? stateText(seen) : '';
    show(notices, [seen?.warnings, seen?.fault, String(trouble ?? ''), isNew, asksToStop, seen?.connectedCount], () =>
      seen ? drawNotices(seen) : [errorBanner(trouble)],
    );
    const shown = call && [call.roomId, call.name, call.joinUrl];
    show(way, seen?.link && [seen.link, shown, seen.addresses, seen.name, seen.editable, seen.address], () =>
      seen?.link ? drawWay(seen, seen.link) : [],
    );
    show(people, seen?.state === 'on' && [seen.connected, seen.connectedCount], () =>
      seen?.state === 'on' ? drawPeople(seen) : [],
    );
    show(own, seen?.state === 'on' && seen.authority, () =>
      seen?.state === 'on' && seen.authority ? drawOwn(seen.authority) : [],
    );
  }

  /** @param {Network} seen */
  function stateText(seen) {
    const text = t(STATES[seen.state]);
    return mayChange(seen) || seen.state === 'waiting' ? text : `${text} ${whyFixed(seen)}`;
  }

  /** @param {Network} seen */
  function whyFixed(seen) {
    return isFixed(seen) ? t('share.fixed') : t('share.onlyHere');
  }

  /** @param {Network} seen */
  function drawNotices(seen) {
    const shown = seen.warnings.map(({ code, detail }) => {
      const text = Object.hasOwn(WARNINGS, code) ? t(WARNINGS[code]) : detail;
      return h('p', { class: 'banner warn' }, text);
    });
    return [
      trouble ? errorBanner(trouble) : undefined,
      asksToStop ? stopQuestion(seen.connectedCount) : undefined,
      seen.state === 'failed' && seen.fault ? banner('error', t('share.failed'), h('p', { lang: 'en' }, seen.fault)) : undefined,
      isNew ? newLinkNotice() : undefined,
      ...shown,
    ];
  }

  /** @param {number} count */
  function stopQuestion(count) {
    const yes = button(t('share.stop'), () => void change({ share: false }).then(() => toggle.focus()), 'small danger');
    const no = button(t('share.keep'), () => {
      asksToStop = false;
      render();
      toggle.focus();
    });
    return banner('warn', t('share.stopQuestion', { count }), h('div', { class: 'row' }, yes, no));
  }

  function newLinkNotice() {
    const put = () => {
      isNew = false;
      render();
    };
    return closable('info', t('share.newLink'), put, t('share.newLinkBody'));
  }

  /**
   * @param {Network} seen
   * @param {string} link
   */
  function drawWay(seen, link) {
    const target = call?.joinUrl ?? link;
    const address = new URL(call ? `api/video/rooms/${call.roomId}/qr.svg` : 'api/network/qr.svg', ROOT);
    address.searchParams.set('at', target); // another link is another picture
    const code = h('img', { class: 'share-code', src: address.href, alt: t('share.codeAlt'), width: '240', height: '240' });
    const text = h('code', { class: 'share-link' }, target);
    const copy = button(t('copy.button'), () => void copyFrom(copy, text));
    return [
      code,
      h(
        'div',
        { class: 'stack' },
        h('p', {}, call ? t('share.callHow', { name: call.name }) : t('share.how')),
        h('div', { class: 'row' }, text, copy),
        call ? h('p', {}, h('a', { class: 'button', href: roomPage(call.roomId).href }, t('share.callEnter'))) : drawStart(),
        seen.name && !call ? h('p', { class: 'hint' }, `${t('share.name')} `, h('code', {}, seen.name.link)) : undefined,
        h('p', { class: 'hint' }, `${t('share.test')} `, h('code', {}, h('a', { href: new URL('test', link).href }, `${link}test`))),
        seen.addresses.length > 1 ? drawChoice(seen) : undefined,
      ),
    ];
  }

  /** A call is what most come for. */
  function drawStart() {
    const start = h('button', { type: 'button', class: 'primary' }, t('share.callStart'));
    const listed = h('input', { type: 'checkbox', id: 'share-listed', checked: true });
    start.addEventListener('click', async () => {
      start.disabled = true;
      try {
        call = await makeCall({ listed: listed.checked });
        made = call.roomId;
      } catch (error) {
        trouble = error;
        start.disabled = false;
      }
      render();
    });
    const label = h('label', { for: 'share-listed', class: 'row' }, listed, ` ${t('share.callListed')}`);
    return h('div', { class: 'stack' }, h('div', { class: 'row' }, start), label);
  }

  /** @param {Network} seen */
  function drawChoice(seen) {
    const select = h('select', { id: 'share-address', disabled: !seen.editable });
    for (const { address, interface: port, virtual } of seen.addresses) {
      const label = virtual ? t('share.virtualAddress', { address, port }) : t('share.address', { address, port });
      select.append(h('option', { value: address, selected: address === seen.address }, label));
    }
    select.addEventListener('change', () => void change({ address: select.value }));
    return h(
      'div',
      { class: 'field' },
      h('label', { for: 'share-address' }, t('share.choose')),
      select,
      h('p', { class: 'hint' }, t('share.chooseHint')),
    );
  }

  /** @param {Network} seen */
  function drawPeople(seen) {
    const head = h('h3', {}, t('share.people'));
    const rest = seen.connectedCount - seen.connected.length;
    if (!seen.connected.length) return [head, h('p', { class: 'hint' }, t('share.nobody'))];
    return [
      head,
      h('ul', { class: 'plain' }, ...seen.connected.map(guest)),
      rest > 0 ? h('p', { class: 'hint' }, t('share.more', { count: rest })) : undefined,
    ];
  }

  return {
    refresh,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', onVisible);
    },
  };
}

/** @param {Guest} guest */
function guest({ displayName, username, ipAddress, userAgent, connectedAt }) {
  const device = deviceName(userAgent);
  return h(
    'li',
    {},
    h('strong', {}, h('bdi', {}, displayName || username || t('share.guest'))),
    h('span', { class: 'hint' }, ` ${[device, ipAddress, formatTime(connectedAt)].filter(Boolean).join(' · ')}`),
  );
}

/** @param {{ url: string, fingerprint: string }} authority */
function drawOwn({ url, fingerprint }) {
  const link = h('a', { href: new URL(url.slice(1), ROOT).href, download: 'rtapp-ca.crt' }, t('share.ownLink'));
  return [
    h('summary', {}, t('share.own')),
    h('p', {}, t('share.ownHow')),
    h('p', {}, link),
    h('p', { class: 'hint' }, t('share.fingerprint')),
    h('p', {}, h('code', {}, fingerprint)),
  ];
}
