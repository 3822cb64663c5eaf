/**
 * The theme: automatic (the system's), light or dark, remembered in this browser.
 *
 * A classic script in the head, not a module: it must run before the first paint, or a page would
 * flash in the wrong theme. Any `<select data-theme-switch>` with the three values becomes a switch.
 */
(() => {
  const KEY = 'rtapp.theme';
  const root = document.documentElement;

  /** @param {string | null} theme `light`, `dark`, or anything else for automatic */
  function apply(theme) {
    if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
    else delete root.dataset.theme;
  }

  /** Storage may be forbidden (private mode, policy): then the choice lasts as long as the page. */
  function saved() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  }

  /** @param {string} theme */
  function save(theme) {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Not remembered, that's all.
    }
  }

  function showInSwitches() {
    for (const element of document.querySelectorAll('select[data-theme-switch]')) {
      /** @type {HTMLSelectElement} */ (element).value = root.dataset.theme ?? 'auto';
    }
  }

  apply(saved());
  document.addEventListener('DOMContentLoaded', showInSwitches);
  document.addEventListener('change', ({ target }) => {
    if (!(target instanceof HTMLSelectElement) || !target.matches('[data-theme-switch]')) return;
    apply(target.value);
    save(target.value);
    showInSwitches();
  });
  addEventListener('storage', ({ key, newValue }) => {
    if (key !== KEY) return;
    apply(newValue);
    showInSwitches();
  });
})();
