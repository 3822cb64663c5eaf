/**
 * The theme that was chosen: light or dark; else it is the system's.
 *
 * A classic script in the head, not a module: it must run before the first paint, or a page would
 * flash in the wrong theme. `page.js` has the switch.
 */
try {
  const theme = localStorage.getItem('rtapp.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden (private mode, policy).
}
