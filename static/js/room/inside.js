/** What only a call needs, in one piece: the engine, and the page's part that is shown in it. */
export { Room } from '../room.js';
export { Call } from './call.js';
