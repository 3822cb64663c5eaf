/** An appointment as a calendar's file (RFC 5545). */

/**
 * @typedef {object} Appointment
 * @property {string} uid the same for the same one
 * @property {Date} now
 * @property {Date} start
 * @property {number} minutes
 * @property {string} title
 * @property {string} text
 * @property {string} url
 */

const MOST = 75; // octets of a line (3.1)

/** @param {Appointment} about */
export function calendar({ uid, now, start, minutes, title, text, url }) {
  const lines = [
    'BEGIN:VCALENDAR',
    'VERSION:2.0',
    'PRODID:-//rtapp//room//EN',
    'BEGIN:VEVENT',
    `UID:${escaped(uid)}`,
    `DTSTAMP:${utc(now)}`,
    `DTSTART:${utc(start)}`,
    `DTEND:${utc(new Date(start.getTime() + minutes * 60_000))}`,
    `SUMMARY:${escaped(title)}`,
    `DESCRIPTION:${escaped(text)}`,
    `LOCATION:${escaped(url)}`,
    `URL:${url}`,
    'END:VEVENT',
    'END:VCALENDAR',
  ];
  return lines.map((line) => `${folded(line)}\r\n`).join('');
}

/** A time in UTC (3.3.5). @param {Date} time */
const utc = (time) => `${time.toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`;

/** A text's value (3.3.11); no control character has a place in one. @param {string} text */
const escaped = (text) =>
  text
    .replace(/\r\n?/g, '\n')
    .replace(/[\\;,]/g, '\\$&')
    .replace(/\n/g, '\\n')
    .replace(/[^\P{Cc}]/gu, '');

/** In lines that are short enough; no character is cut. @param {string} line */
function folded(line) {
  let [made, room] = ['', MOST];
  for (const letter of line) {
    const size = new TextEncoder().encode(letter).length;
    if (size > room) [made, room] = [`${made}\r\n `, MOST - 1];
    made += letter;
    room -= size;
  }
  return made;
}
