/** The notices above a page's content, one of each kind. */
import { onLanguage } from './i18n.js';
import { byId } from './page.js';

/** @type {Map<string, () => HTMLElement>} */
const notices = new Map();

/**
 * @param {string} kind
 * @param {() => HTMLElement} [render] none takes it away
 */
export function notice(kind, render) {
  if (!render && !notices.has(kind)) return;
  if (render) notices.set(kind, render);
  else notices.delete(kind);
  renderNotices();
}

function renderNotices() {
  byId('notices').replaceChildren(...[...notices.values()].map((render) => render()));
}

onLanguage(renderNotices);
