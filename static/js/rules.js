/** What names and passwords may be, as the server takes them, and what is said at a field that has another. */
import { fieldError } from './forms.js';
import { t } from './i18n.js';

const USERNAME = /^[A-Za-z0-9_.@-]{1,64}$/;
export const TOKEN_NAME = /^[A-Za-z0-9_.-]{1,64}$/;
export const CHANNEL = /^[A-Za-z0-9_.:/-]{1,128}$/;
export const ROOM = /^[A-Za-z0-9_-]{1,64}$/;
const SHORTEST = 8; // characters, as the server counts them

/** A new password that may not be, by an error's code. @type {Record<string, [string, string]>} */
export const WEAK = { weak_password: ['password', 'password.weak'] };

/**
 * What is wrong with a new password, as the key of a text; undefined when nothing is.
 * @param {string} password
 */
export function passwordFault(password) {
  return [...password].length < SHORTEST ? 'password.short' : undefined;
}

/** @param {HTMLInputElement} field */
export function checkUsername(field) {
  fieldError(field, USERNAME.test(field.value.trim()) ? undefined : () => t('signin.badUsername'));
}

/** @param {HTMLInputElement} field with the name of a channel, or nothing @returns {boolean} whether that may be */
export function checkChannel(field) {
  const name = field.value.trim();
  const may = !name || CHANNEL.test(name);
  fieldError(field, may ? undefined : () => t('send.badChannel'));
  return may;
}

/** @param {HTMLInputElement | HTMLTextAreaElement} field */
export function checkJson(field) {
  const fault = jsonFault(field.value);
  if (fault) fieldError(field, () => t('send.badJson', { reason: fault }));
}

/** @param {HTMLInputElement} field with a new password */
export function checkPassword(field) {
  const fault = passwordFault(field.value);
  fieldError(field, fault ? () => t(fault) : undefined);
}

/**
 * Why a text isn't JSON, in the browser's words; empty when it is.
 * @param {string} text
 */
function jsonFault(text) {
  try {
    JSON.parse(text);
    return '';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
