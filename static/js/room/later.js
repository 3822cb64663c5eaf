/** What few calls need: fetched in one, and some time after the beginning, to be there when the server isn't. */
export { take } from './corner.js';
export { Pager } from './pager.js';
export { togglePip } from './pip.js';
export { share } from './sharing.js';
export { chooseView, fillScreen, nextView } from './views.js';
