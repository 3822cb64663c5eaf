/** The choice of an emoji for the chat. */
import { h } from '../page.js';
import { said } from './dom.js';
import { named } from './parts.js';

/** By groups. @type {[string, string][]} */
const GROUPS = [
  ['room.emoji.faces', '😀 😄 😅 😂 🙂 😉 😊 😍 😘 😎 🤔 😐 😴 😮 😢 😭 😡 🥳'],
  ['room.emoji.people', '👍 👎 👏 🙌 👋 🙏 💪 👌 ✌️ 🤝 👀 🤷'],
  ['room.emoji.signs', '❤️ 💔 ⭐ 🔥 ✅ ❌ ❓ ❗ 💡 ⏰ 🎉 💯'],
  ['room.emoji.things', '☕ 🍕 🎂 🌍 ☀️ 🌧️ 🚀 🏠 📎 📅 🐈 🌷'],
];
const COLUMNS = 6;

/**
 * @param {HTMLElement} button that opens and closes it
 * @param {(emoji: string) => void} take
 * @param {() => void} close
 */
export function makeEmoji(button, take, close) {
  const groups = GROUPS.map(([name, emoji]) => [said('h3', name), h('div', { class: 'emoji-group' }, ...emoji.split(' ').map((one) => choice(one, take)))]);
  const made = h('div', { id: 'emoji', class: 'emoji', role: 'group', hidden: true, ...named({ 'aria-label': 'room.chat.emoji' }) }, ...groups.flat());
  const all = /** @type {HTMLButtonElement[]} */ ([...made.querySelectorAll('button')]);
  all[0].tabIndex = 0;
  made.addEventListener('keydown', (event) => {
    const at = all.findIndex((one) => one === document.activeElement);
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: COLUMNS, ArrowUp: -COLUMNS }[event.key];
    if (event.key === 'Escape') close();
    else if (by !== undefined) all[Math.min(Math.max(at + by, 0), all.length - 1)].focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  made.addEventListener('focusin', ({ target }) => all.forEach((one) => (one.tabIndex = one === target ? 0 : -1)));
  document.addEventListener('pointerdown', ({ target }) => {
    const isInside = target instanceof Node && (made.contains(target) || button.contains(target));
    if (!isInside && !made.hidden) close();
  });
  return made;
}

/** Its name is the character's, in the reader's language. @param {string} emoji @param {(emoji: string) => void} take */
function choice(emoji, take) {
  const button = h('button', { type: 'button', tabindex: '-1' }, emoji);
  button.addEventListener('click', () => take(emoji));
  return button;
}
