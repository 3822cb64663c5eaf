/** Notifications of the system, for whoever looks elsewhere: asked for only by who turns them on. */
import { t } from '../i18n.js';
import { byId, h } from '../page.js';
import { said } from './dom.js';

/** @typedef {import('./panels.js').Panels} Panels */
/** @typedef {import('./panels.js').Panel} Panel */
/** @typedef {import('./settings.js').Settings} Settings */

/** Android's browsers know the name and refuse each. */
const canNotify = globalThis.isSecureContext && 'Notification' in globalThis && !/Android/.test(navigator.userAgent);
/** Those that are shown, by what they lead to. @type {Map<Panel, Notification>} */
const shown = new Map();

/** The switch in the settings. @param {Settings} settings */
export function addSwitch(settings) {
  if (document.getElementById('notify')) return;
  const hint = said('p', 'room.notify.none', { id: 'notify-hint', class: 'hint', role: 'status', hidden: canNotify });
  const box = h('input', { id: 'notify', type: 'checkbox', disabled: !canNotify, 'aria-describedby': hint.id });
  box.checked = canNotify && settings.options.notify && Notification.permission === 'granted';
  box.addEventListener('change', async () => {
    const isOn = box.checked && (await Notification.requestPermission()) === 'granted';
    hint.hidden = isOn || !box.checked;
    hint.dataset.i18n = 'room.notify.blocked';
    hint.textContent = t('room.notify.blocked');
    box.checked = isOn;
    settings.set('notify', isOn);
  });
  byId('sounds').closest('.settings-switches')?.append(h('label', { class: 'switch', for: 'notify' }, box, said('span', 'room.notify.switch')), hint);
}

/** A click leads to the panel where it stands. @param {Panels} panels @param {Panel} panel @param {string} text */
export function tell(panels, panel, text) {
  if (!canNotify || Notification.permission !== 'granted') return;
  const icon = new URL('../../img/icon.svg', import.meta.url).href;
  const note = new Notification(byId('call-title').textContent ?? '', { body: text, tag: `rtapp-${panel}`, icon });
  shown.set(panel, note);
  note.onclick = () => {
    window.focus();
    panels.open(panel);
    note.close();
  };
}

// Whoever looks has seen it.
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState !== 'visible') return;
  for (const note of shown.values()) note.close();
  shown.clear();
});
