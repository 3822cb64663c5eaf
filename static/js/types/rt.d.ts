/**
 * rtapp's client: messages once and in order, across reconnects too, in pages, workers and Node.
 *
 *     const rt = connect({ channels: ['news'] });
 *     rt.on('message', (data, { id, channel }) => console.log(data));
 *     await rt.emit('message', 'Hello!', { channel: 'news' });
 *
 * The guide is static/docs/client.md. Types are in rt-types.js; the other rt-*.js are loaded late.
 */
export type State = import('./rt-types.js').State;
export type Meta = import('./rt-types.js').Meta;
export type Detail = import('./rt-types.js').Detail;
export type Options = import('./rt-types.js').Options;
export type EmitOptions = import('./rt-types.js').EmitOptions;
export type OwnEvents = import('./rt-types.js').OwnEvents;
export type Fault = import('./rt-types.js').Fault;
export type Item = import('./rt-types.js').Item;
export type News = import('./rt-types.js').News;
export type Refused = import('./rt-types.js').Refused;
/**
 * Connect, and stay connected. Throws where it isn't known to what.
 * @template {Record<string, any>} [Events=Record<string, any>] data by the event's name
 * @param {string | URL | Options} [url] the server's root; by default the one this file came from
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
/**
 * What a page has of the connection.
 * @template {Record<string, any>} [Events=Record<string, any>]
 */
export declare class Client<Events extends Record<string, any> = Record<string, any>> {
    #private;
    base: URL;
    options: import("./rt-types.js").Options;
    /** @type {Set<string>} */
    channels: Set<string>;
    /** @type {State} */
    state: State;
    /** The last id that this page was given. */
    lastEventId: string;
    /** The secret behind `clientId`. */
    session: string;
    /** The connection event's data. @type {any} */
    hello: any;
    /** @returns {string} */
    get clientId(): string;
    /** Once it is open; rejects with why it was closed. */
    get ready(): Promise<this>;
    /**
     * @template {(keyof Events | keyof OwnEvents) & string} Name
     * @param {Name} event a message's (`message` where it has none), the server's type, or of OwnEvents
     * @param {import('./rt-types.js').Listener<Events, Name>} listener
     * @returns {() => void} removes it
     */
    on<Name extends (keyof Events | keyof OwnEvents) & string>(event: Name, listener: import('./rt-types.js').Listener<Events, Name>): () => void;
    /**
     * @template {(keyof Events | keyof OwnEvents) & string} Name
     * @param {Name} event
     * @param {import('./rt-types.js').Listener<Events, Name>} listener
     * @returns {() => void} removes it
     */
    once<Name extends (keyof Events | keyof OwnEvents) & string>(event: Name, listener: import('./rt-types.js').Listener<Events, Name>): () => void;
    /** @param {string} event @param {import('./rt-types.js').Listener<any, any>} [listener] none: all of them */
    off(event: string, listener?: import('./rt-types.js').Listener<any, any>): this;
    /**
     * Publish; resolves when the message is stored.
     * @template {keyof Events & string} Name
     * @param {Name} event
     * @param {Events[Name] | null} [data] any JSON value
     * @param {EmitOptions} [options]
     * @returns {Promise<{ id: number | null }>}
     */
    emit<Name extends keyof Events & string>(event: Name, data?: Events[Name] | null, options?: EmitOptions): Promise<{
        id: number | null;
    }>;
    /**
     * Resolves when the server has it; at once where the connection is closed. Rejects when it is
     * refused, and then wants none of them.
     * @param {...(string | { since?: string })} channels and perhaps, last, behind which id to begin
     */
    subscribe(...channels: (string | {
        since?: string;
    })[]): Promise<void>;
    /** @param {...string} channels */
    unsubscribe(...channels: string[]): Promise<void>;
    /** @param {string} name @returns {import('./rt-types.js').Channel<Events>} */
    channel(name: string): import('./rt-types.js').Channel<Events>;
    /** Connect now, with all attempts ahead; also after `closed`. */
    retryNow(): void;
    close(): void;
}
