/** The notices above a page's content, one of each kind: what doesn't work now, and what to do. */
import { onLanguage, t } from './i18n.js';
import { banner, button, byId } from './page.js';

/** @type {Map<string, { render: () => HTMLElement, state: string | undefined }>} */
const notices = new Map();

/**
 * @param {string} kind
 * @param {() => HTMLElement} [render] none takes it away
 * @param {string} [state] what it says: as long as that is the same it isn't said again
 */
export function notice(kind, render, state) {
  const old = notices.get(kind);
  if (render ? old && state !== undefined && old.state === state : !old) return;
  if (render) notices.set(kind, { render, state });
  else notices.delete(kind);
  const place = byId('notices');
  const element = [...place.children].find((one) => /** @type {HTMLElement} */ (one).dataset.notice === kind);
  const next = render && made(kind, render);
  if (element && next) element.replaceWith(next);
  else if (next) place.append(next);
  else element?.remove();
}

/** @param {string} kind @param {() => HTMLElement} render */
function made(kind, render) {
  const element = render();
  element.dataset.notice = kind;
  return element;
}

/**
 * A banner that the reader may put away.
 * @param {'info' | 'ok' | 'warn'} kind
 * @param {string} title
 * @param {() => void} put
 * @param {...(Node | string)} body
 */
export function closable(kind, title, put, ...body) {
  return banner(kind, title, ...body, button(t('notice.close'), put));
}

export const clearNotices = () => [...notices.keys()].forEach((kind) => notice(kind));

onLanguage(() => byId('notices').replaceChildren(...[...notices].map(([kind, { render }]) => made(kind, render))));
