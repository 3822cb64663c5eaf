/** Whether this server is shared on the network, and who may change that. */
import { api } from './api.js';

/** @typedef {{ address: string, interface: string, kind: string, virtual: boolean, link: string }} Address */
/**
 * @typedef {object} Guest
 * @property {string} clientId
 * @property {string} ipAddress
 * @property {string | null} username
 * @property {string | null} displayName of a video room
 * @property {string} userAgent
 * @property {string} connectedAt
 */
/**
 * What `GET /api/network` answers.
 * @typedef {object} Network
 * @property {boolean} share
 * @property {'off' | 'waiting' | 'on' | 'failed'} state
 * @property {string | null} fault
 * @property {string} source
 * @property {boolean} editable from this computer
 * @property {string | null} address
 * @property {string | null} link
 * @property {Address[]} addresses
 * @property {{ name: string, link: string } | null} name
 * @property {{ url: string, fingerprint: string } | null} authority
 * @property {string | null} arrivedAt
 * @property {Guest[]} connected those who came last
 * @property {number} connectedCount
 * @property {{ code: string, detail: string }[]} warnings
 */

/** For administrators. @returns {Promise<Network>} @throws {import('./api.js').ApiError} */
export const network = () => api('GET', 'api/network');

/** @param {{ share?: boolean, address?: string | null }} wish @returns {Promise<Network>} @throws {import('./api.js').ApiError} */
export const changeNetwork = (wish) => api('POST', 'api/network', wish);

/** By the command line or the environment. @param {Network} view */
export const isFixed = ({ source }) => source === 'command line' || source === 'environment';

/** @param {Network} view */
export const mayChange = (view) => view.editable && !isFixed(view);
