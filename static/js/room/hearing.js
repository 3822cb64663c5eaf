/** How loud somebody is heard here: a dialog that is fetched when it is asked for. */
import { formatNumber, t } from '../i18n.js';
import { h } from '../page.js';
import { openDialog, said } from './dom.js';
import { hear, hearingOf } from './sound.js';

/** @typedef {import('../room.js').Participant} Participant */

/** Not on an iPhone: there the buttons at its side do it for all. */
const canSetVolume = () => {
  const probe = new Audio();
  probe.volume = 0.5;
  return probe.volume === 0.5;
};

/** @param {Participant} person @param {string} name @param {() => void} onChange */
export function openHearing(person, name, onChange) {
  const { volume, muted } = hearingOf(person);
  const box = h('input', { id: 'hearing-muted', type: 'checkbox' });
  box.checked = muted;
  const slider = h('input', { id: 'hearing-volume', type: 'range', min: '0', max: '100', step: '5' });
  slider.value = String(Math.round(volume * 100));
  const shown = h('output', { for: slider.id });
  const show = () => {
    shown.value = formatNumber(Number(slider.value) / 100, { style: 'percent' });
    slider.setAttribute('aria-valuetext', shown.value);
  };
  show();
  slider.addEventListener('input', () => {
    show();
    // Who makes them louder wants to hear them.
    if (slider.value !== '0') box.checked = false;
    hear(person, { volume: Number(slider.value) / 100, muted: box.checked });
    onChange();
  });
  box.addEventListener('change', () => {
    hear(person, { muted: box.checked });
    onChange();
  });
  const volumeField = h(
    'div',
    { class: 'field', hidden: !canSetVolume() },
    said('label', 'room.hear.volume', { for: slider.id }),
    h('div', { class: 'slider' }, slider, shown),
  );
  const dialog = h(
    'dialog',
    { 'aria-labelledby': 'hearing-title' },
    h(
      'div',
      { class: 'stack' },
      h('h2', { id: 'hearing-title', tabindex: '-1' }, t('room.hear.title', { name })),
      volumeField,
      h('label', { class: 'switch', for: box.id }, box, said('span', 'room.hear.mute')),
      h('p', { class: 'hint' }, t('room.hear.hint', { name })),
      h('div', { class: 'actions' }, said('button', 'notice.close', { type: 'button', 'data-close-dialog': true })),
    ),
  );
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  openDialog(dialog);
}
