/**
 * The page that plain HTTP from the network is answered with. It goes on to https by itself where
 * the browser accepts the certificate already, and folds the steps of all browsers but the guest's own.
 *
 * The server puts this script into the page itself: nothing else can be loaded over plain HTTP.
 */
(() => {
  const way = /** @type {HTMLAnchorElement} */ (document.getElementById('continue'));
  // What is secret in a link stands after the #, which no server sees.
  way.hash = location.hash;
  const other = /** @type {HTMLAnchorElement} */ (document.getElementById('language'));
  other.hash = location.hash;

  document.title = `${document.querySelector('h1')?.innerText} – rtapp`;

  markBrowser();
  if (!cameBack()) probe();

  /** An image over https loads only where the certificate is accepted. */
  function probe() {
    const image = new Image();
    image.addEventListener('load', () => {
      const going = /** @type {HTMLElement} */ (document.getElementById('going'));
      going.hidden = false;
      location.replace(way.href);
    });
    image.src = new URL('/static/img/icon.svg?accepted', way.href).href;
  }

  /** Who pressed Back wants to be here. */
  function cameBack() {
    const [entry] = performance.getEntriesByType('navigation');
    return entry instanceof PerformanceNavigationTiming && entry.type === 'back_forward';
  }

  function markBrowser() {
    const agent = navigator.userAgent;
    const chat = document.getElementById('chat');
    if (chat) chat.hidden = !/FBA[NV]|Instagram|Line\/|MicroMessenger|Snapchat|TikTok|WhatsApp|Twitter|; wv\)/.test(agent);
    const row = document.querySelector(`[data-browser="${browser(agent)}"]`);
    const others = document.getElementById('others');
    if (!row || !others) return;
    row.setAttribute('aria-current', 'true');
    others.querySelector('tbody')?.append(...document.querySelectorAll('#browsers tr:not([aria-current])'));
    others.hidden = false;
  }

  /** @param {string} agent */
  function browser(agent) {
    // An iPad says that it is a Mac; a Mac has no fingers.
    const ios = /iPhone|iPad|iPod/.test(agent) || (agent.includes('Macintosh') && navigator.maxTouchPoints > 1);
    const name = agent.match(/FxiOS|CriOS|EdgiOS|Firefox|Chrome|Safari/)?.[0] ?? '';
    if (ios) return { FxiOS: 'firefox-ios', CriOS: 'chrome-ios', EdgiOS: 'chrome-ios' }[name] ?? 'safari-ios';
    const system = agent.includes('Android') ? '-android' : '';
    if (name === 'Firefox') return `firefox${system}`;
    return name === 'Safari' ? 'safari-mac' : `chrome${system}`;
  }
})();
