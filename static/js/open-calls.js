/** Calls that everybody may find, and new ones. */
import { api, ROOT } from './api.js';
import { t } from './i18n.js';

/**
 * A call as somebody sees it who isn't in it.
 * @typedef {object} OpenCall
 * @property {string} roomId
 * @property {string} name
 * @property {string} joinUrl
 * @property {boolean} hasPassword
 * @property {boolean} full
 * @property {number} [participantCount] where the server tells it
 */

/** @returns {Promise<OpenCall[]>} the calls that everybody may find */
export const openCalls = () => api('GET', 'api/video/rooms/listed');

/** @param {string} id @param {boolean} [isNew] whether whoever opens it has just made it */
export const roomPage = (id, isNew) => new URL(`room/${encodeURIComponent(id)}${isNew ? '#new' : ''}`, ROOT);

/** Make a call, by that name or the usual one. @param {{ name?: string, listed?: boolean }} about @returns {Promise<OpenCall>} */
export const makeCall = ({ name, ...more }) => api('POST', 'api/video/rooms', { name: name || t('calls.defaultName'), ...more });
