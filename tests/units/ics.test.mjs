/** An appointment as a calendar's file (`static/js/room/ics.js`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { calendar } from '../../static/js/room/ics.js';

const made = (more = {}) =>
  calendar({
    uid: 'a-1@host',
    now: new Date('2026-01-02T03:04:05.678Z'),
    start: new Date('2026-03-29T01:30:00+03:00'),
    minutes: 60,
    title: 'Planning',
    text: 'Come',
    url: 'https://host.test/room/a',
    ...more,
  });
const unfolded = (text) => text.replace(/\r\n /g, '');

test('an appointment has what a calendar asks for, in UTC, each line ended by CR and LF', () => {
  assert.equal(
    made(),
    ['BEGIN:VCALENDAR', 'VERSION:2.0', 'PRODID:-//rtapp//room//EN', 'BEGIN:VEVENT', 'UID:a-1@host', 'DTSTAMP:20260102T030405Z', 'DTSTART:20260328T223000Z', 'DTEND:20260328T233000Z', 'SUMMARY:Planning', 'DESCRIPTION:Come', 'LOCATION:https://host.test/room/a', 'URL:https://host.test/room/a', 'END:VEVENT', 'END:VCALENDAR', ''].join('\r\n'),
  );
});

test('no line has more than 75 octets, and no character is cut', () => {
  const title = `${'ğ'.repeat(70)}${'😀'.repeat(40)}${'x'.repeat(200)}`;
  const text = made({ title });
  for (const line of text.split('\r\n')) assert.ok(new TextEncoder().encode(line).length <= 75, line);
  assert.ok(unfolded(text).includes(`SUMMARY:${title}\r\n`));
  assert.ok(!text.includes('\ufffd'));
});

test('what means something in the file is escaped; nothing ends a line or begins another property', () => {
  const text = unfolded(made({ title: 'a;b,c\\d', text: 'one\r\ntwo\nEND:VEVENT\u0000\u0007\rthree' }));
  assert.ok(text.includes('SUMMARY:a\\;b\\,c\\\\d\r\n'));
  assert.ok(text.includes('DESCRIPTION:one\\ntwo\\nEND:VEVENT\\nthree\r\n'));
  assert.equal(text.match(/^END:VEVENT/gm).length, 1);
});
