/**
 * rtapp's client: messages once and in order, across reconnects, in pages, workers and Node.
 *
 *     const rt = connect({ channels: ['news'] });
 *     rt.on('message', (data) => console.log(data));
 *     await rt.emit('message', 'Hello!', { channel: 'news' });
 *
 * Guide: static/docs/client.md
 */
export type State = import('./rt-types.js').State;
export type Meta = import('./rt-types.js').Meta;
export type Detail = import('./rt-types.js').Detail;
export type Options = import('./rt-types.js').Options;
export type EmitOptions = import('./rt-types.js').EmitOptions;
export type Client<Events extends Record<string, any> = Record<string, any>> = import('./rt-types.js').Client<Events>;
/**
 * Connect, and stay connected.
 * @template {Record<string, any>} [Events=Record<string, any>] data by the event's name
 * @param {string | URL | Options} [url] the server's root, or else this file's
 * @param {Options} [options]
 * @returns {Client<Events>}
 */
export declare function connect<Events extends Record<string, any> = Record<string, any>>(url?: string | URL | Options, options?: Options): Client<Events>;
/** A call that failed, or why there is no connection. */
export declare class RtError extends Error {
    status: number;
    code: string;
    retryAfter: number;
    /** Whether asking again can't help. */
    final: boolean;
    /**
     * @param {string} message
     * @param {{ status?: number, code?: string, retryAfter?: number }} [more] status 0: not reached; ms
     */
    constructor(message: string, { status, code, retryAfter }?: {
        status?: number;
        code?: string;
        retryAfter?: number;
    });
}
