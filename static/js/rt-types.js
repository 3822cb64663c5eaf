/** What rt.js says in types alone: nobody loads this file. */

/** @typedef {'connecting' | 'open' | 'reconnecting' | 'closed'} State */
/** @typedef {{ id?: string, channel?: string, event?: string }} Meta `event` as the publisher named it */
/**
 * What comes, or is `own`; it may be one of the older messages behind `since`.
 * @typedef {Meta & { name: string, data: any, own?: boolean, since?: string }} Item
 */
/**
 * A channel that began behind an id, until its older messages have all come: how many of its messages
 * this page had, and has seen on this connection, and the last one's position, empty before it and
 * undefined where they were not asked for.
 * @typedef {{ id: string, had: number, seen: number, at?: string }} Older
 */
/** @typedef {{ message: string, status: number, code: string }} Fault `status` 0: not reached */
/**
 * Of `reconnecting` the attempt and the wait in ms, of `closed` the reason: `closed`, `refused`, `gave
 * up` or `disconnected`.
 * @typedef {{ reason?: string, attempt?: number, delay?: number, error?: Fault }} Detail
 */
/** @typedef {{ state: State, detail?: Detail, hello: any, session: string }} News of a connection */
/** @typedef {{ pass: (item: Item) => void, passNews: (news: News) => void }} Owner of a connection */
/** @typedef {Record<string, Fault>} Refused why, by the channel's name */
/**
 * What is told beside messages and the server's own types: each message (`*`), the connection's
 * states, that nothing was missed (`recovered`) or something may have been (`reset`), and that a
 * proxy holds messages back (`buffering`).
 * @typedef {{ '*': any, connecting: Detail, open: Detail, reconnecting: Detail, closed: Detail,
 *   recovered: any, reset: any, buffering: {} }} OwnEvents
 */
/**
 * The data of an event.
 * @template Events
 * @template {PropertyKey} Name
 * @typedef {Name extends keyof Events ? Events[Name] : Name extends keyof OwnEvents ? OwnEvents[Name] : any} DataOf
 */
/**
 * @template Events
 * @template {PropertyKey} Name
 * @typedef {(data: DataOf<Events, Name>, meta: Meta) => void} Listener
 */
/** @typedef {Listener<any, any>} Heard */
/**
 * @typedef {object} EmitOptions
 * @property {string} [channel]
 * @property {string} [to] a clientId
 * @property {boolean} [volatile] not stored, and lost to whoever isn't there
 * @property {number} [timeout] ms for the whole
 * @property {AbortSignal} [signal] that ends it
 * @property {number} [retries] times to ask again where no answer came, or one that says so: by an
 *   idempotency key, so that it is stored once
 */
/**
 * @typedef {object} Options
 * @property {string[]} [channels] besides messages to all and to this client
 * @property {'sse' | 'websocket'} [transport]
 * @property {string} [token] API token or JWT; without one the session cookie counts
 * @property {() => string | Promise<string>} [getToken] asked first, after a 401, and before a JWT ends
 * @property {string} [session] a secret of 22-64 characters that keeps the same `clientId`
 * @property {number} [attempts] to reconnect in a row (5); Infinity never gives up
 * @property {boolean} [shared] one stream for all tabs: the default in pages, over SSE, without
 *   `getToken`; with it, say so where all tabs are of one user
 * @property {string} [since] an id to begin behind, instead of now
 * @property {boolean | ((words: string) => void)} [debug] say what the connection does
 * @property {typeof globalThis.fetch} [fetch] another one
 * @property {any} [WebSocket] a class, where there is none
 */

/**
 * One channel. `on` subscribes to it, and the removal of its last listener leaves it again, unless it
 * was subscribed to otherwise.
 * @template {Record<string, any>} Events
 * @typedef {object} Channel
 * @property {string} name
 * @property {<Name extends (keyof Events | '*') & string>(event: Name, listener: Listener<Events, Name>) => () => void} on
 *   gives its own removal
 * @property {<Name extends keyof Events & string>(event: Name, data?: Events[Name] | null,
 *   options?: EmitOptions) => Promise<{ id: number | null }>} publish
 * @property {(page?: { limit?: number, before?: number }) => Promise<any[]>} history newest first
 * @property {() => Promise<any[]>} presence who is on it
 */

/**
 * What a page has of the connection.
 * @template {Record<string, any>} [Events=Record<string, any>]
 * @typedef {object} Client
 * @property {State} state
 * @property {string} clientId
 * @property {string} session the secret behind `clientId`
 * @property {string} lastEventId the last id that this page was given
 * @property {any} hello the connection event's data
 * @property {URL} base
 * @property {Options} options
 * @property {Set<string>} channels
 * @property {Promise<Client<Events>>} ready once it is open; rejects with why it was closed
 * @property {<Name extends (keyof Events | keyof OwnEvents) & string>(event: Name, listener: Listener<Events, Name>) => () => void} on
 *   a message's event (`message` where it has none), the server's type, or one of OwnEvents; gives what
 *   removes the listener
 * @property {<Name extends (keyof Events | keyof OwnEvents) & string>(event: Name, listener: Listener<Events, Name>) => () => void} once
 * @property {(event: string, listener?: Heard) => Client<Events>} off without a listener: all of them
 * @property {<Name extends keyof Events & string>(event: Name, data?: Events[Name] | null,
 *   options?: EmitOptions) => Promise<{ id: number | null }>} emit publish any JSON value; resolves when it
 *   is stored
 * @property {(...channels: (string | { since?: string })[]) => Promise<void>} subscribe to channels and
 *   perhaps, last, behind which id to begin. Resolves when the server has it; at once where the
 *   connection is closed. Rejects when it is refused, and then wants none of them
 * @property {(...channels: string[]) => Promise<void>} unsubscribe
 * @property {(name: string) => Channel<Events>} channel
 * @property {() => void} retryNow connect now, with all attempts ahead; also after `closed`
 * @property {() => void} close
 */

export {};
