/** Settings that few change in a call: how much data it takes, what is done to the sound and the picture. */
import { h } from '../page.js';
import { said } from './dom.js';

/** @typedef {import('./call.js').Call} Call */

/** [value, text] @type {[string, string][]} */
const DATA = [['all', 'room.data.all'], ['low', 'room.data.low'], ['audio', 'room.data.audio']];
/** @type {[string, string][]} */
const SOUNDS = [['voice', 'room.sound.voice'], ['music', 'room.sound.music'], ['plain', 'room.sound.plain']];

/** Fields as they stand now, to be made anew whenever the settings are opened. @param {Call} call */
export function tuning({ devices, room, settings }) {
  const data = choice('data', DATA, room.data, (value) => settings.setData(/** @type {any} */ (value)));
  const echo = said('p', 'room.sound.hint', { id: 'choose-sound-hint', class: 'hint' });
  const warn = () => (echo.hidden = devices.sound === 'voice');
  const sound = choice('sound', SOUNDS, devices.sound, (value) => {
    void devices.tune(/** @type {any} */ (value));
    warn();
  });
  warn();
  const blur = h('input', { id: 'blur', type: 'checkbox' });
  blur.checked = devices.blur;
  blur.addEventListener('change', () => void devices.setBlur(blur.checked));
  return h(
    'div',
    { class: 'stack pickers tuning' },
    h('div', { class: 'field' }, said('label', 'room.sound.title', { for: sound.id }), sound, echo),
    h('label', { class: 'switch', for: blur.id, hidden: !devices.canBlur }, blur, said('span', 'room.blur')),
    h('div', { class: 'field' }, said('label', 'room.data.title', { for: data.id }), data, said('p', 'room.data.hint', { id: 'choose-data-hint', class: 'hint' })),
  );
}

/** @param {string} name @param {[string, string][]} options @param {string} now @param {(value: string) => void} act */
function choice(name, options, now, act) {
  const field = h('select', { id: `choose-${name}`, 'aria-describedby': `choose-${name}-hint` }, ...options.map(([value, text]) => said('option', text, { value })));
  field.value = now;
  field.addEventListener('change', () => act(field.value));
  return field;
}
