/** What a browser's own name for itself says. */

/** The names of browsers and systems that a user agent gives away, the more particular first. */
const BROWSERS = /(Edg|SamsungBrowser|OPR|FxiOS|CriOS|Firefox|Chrome|Safari)/;
const BROWSER_NAMES = /** @type {Record<string, string>} */ ({
  Edg: 'Edge',
  SamsungBrowser: 'Samsung Internet',
  OPR: 'Opera',
  FxiOS: 'Firefox',
  CriOS: 'Chrome',
});
const SYSTEMS = ['iPhone', 'iPad', 'Android', 'Windows', 'Mac OS X', 'CrOS', 'Linux'];
const SYSTEM_NAMES = /** @type {Record<string, string>} */ ({ 'Mac OS X': 'macOS', CrOS: 'ChromeOS' });

/**
 * @param {string} [agent]
 * @returns {string} such as `Chrome, Android`
 */
export function deviceName(agent = navigator.userAgent) {
  const particular = agent.match(/(Edg|SamsungBrowser|OPR)\//) ?? agent.match(BROWSERS);
  const system = SYSTEMS.find((name) => agent.includes(name)); // Android says Linux too
  const names = [
    particular && (BROWSER_NAMES[particular[1]] ?? particular[1]),
    system && (SYSTEM_NAMES[system] ?? system),
  ];
  return names.filter(Boolean).join(', ');
}
