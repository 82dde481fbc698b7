// What applications see of a stream, in types. Nothing here exists at run time.
//
// A stream is typed by one interface: event names, and what each event's data is. `newswire types` writes it from a
// contract in Python; by hand it is as short:
//
//     interface Events { price: { symbol: string; value: number }; "order.placed": Order; done: null }

/** The events of a stream that nobody has typed: any name, any data. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type AnyEvents = { [event: string]: any };

/** The names of the events in `E`. */
export type NameOf<E> = keyof E & string;

/** The names of the events in `E` whose data is text. */
export type TextNameOf<E> = { [N in NameOf<E>]: string extends E[N] ? N : E[N] extends string ? N : never }[NameOf<E>];

/** One event, as handlers and loops get it. */
export interface StreamEvent<Name extends string = string, Data = unknown> {
  /** The event type; `message` if the server named none. */
  readonly event: Name;
  /** The data: a value of JSON, or text. */
  readonly data: Data;
  /** The data as it was sent. */
  readonly text: string;
  /** The last event ID in force: the cursor from which a stream goes on after this event. Empty if there is none. */
  readonly id: string;
  /** The channel, on a newswire stream of several channels; else null. */
  readonly channel: string | null;
}

/**
 * Any event of `E`, told apart by its `event`: `switch (e.event)` knows the type of `e.data` in each case. Newswire's own
 * events, such as `newswire.presence`, are none of them: `*` and loops have only those of the application.
 */
export type EventOf<E> = { [N in NameOf<E>]: N extends `newswire.${string}` ? never : StreamEvent<N, E[N]> }[NameOf<E>];

/** One handler for each event of `E`: a missing one is a compile error. */
export type Handlers<E> = { [N in NameOf<E>]: (event: StreamEvent<N, E[N]>) => void };

/**
 * `connecting`: no stream is open, and an attempt runs or follows. `open`: events arrive. `closed`: for good.
 */
export type State = "connecting" | "open" | "closed";

/** What the server answered when it opened the stream. */
export interface Opened {
  readonly url: string;
  readonly status: number;
  readonly headers: Headers;
  /** Whether an earlier stream of this connection was open before this one. */
  readonly reconnected: boolean;
}

/** Events are missing between the last one and the next: the server doesn't keep them any more. */
export interface Gap {
  readonly reason?: string;
  /** The cursor after which they are missing. */
  readonly after?: string | null;
  /** The last missing position. */
  readonly through?: string | null;
  /** From where the stream goes on. */
  readonly id: string;
}

/**
 * One change of the members of a channel: the data of `newswire.presence`. After a gap everybody comes again.
 *
 *     connect<Events & { "newswire.presence": Presence }>(url).on("newswire.presence", ({ data }) => …)
 */
export interface Presence {
  readonly channel: string;
  readonly member: string;
  readonly change: "join" | "update" | "leave";
  /** What the member shows to others; none if it has left. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly state?: any;
}

/** The server ends the stream, for now: a new attempt follows after `retry` milliseconds. */
export interface Goodbye {
  readonly retry?: number;
}

/** The stream is over for good. */
export interface End {
  readonly reason?: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly result?: any;
  readonly error?: { readonly type?: string; readonly message?: string };
}

/** Header fields; the value of a field that is `undefined` or null is left out. */
export type HeaderFields = Headers | Record<string, string | null | undefined>;

/** Delays between attempts, in milliseconds. */
export interface Backoff {
  /** The reconnection time until the server sets one by `retry:`. Default 1000. */
  retry?: number | undefined;
  /** The most that the first failure adds; doubled by each that follows. Default 1000. */
  first?: number | undefined;
  /** The most that failures add. Default 30 000. */
  cap?: number | undefined;
  /** The longest wait that a server can ask for. Default an hour. */
  longest?: number | undefined;
}

export interface ConnectOptions<E extends object = AnyEvents> {
  /** `GET` by default, `POST` if there is a body. */
  method?: string | undefined;
  /**
   * Header fields, or a function that is called for each attempt: a token is then always fresh. After a 401 it is called
   * once more, behind `onError`: if it gives other fields, they are tried too.
   */
  headers?: HeaderFields | (() => HeaderFields | Promise<HeaderFields>) | undefined;
  /** The body of a POST. Anything that is no string, form, blob or buffer is sent as JSON. */
  body?: unknown;
  /** As in `fetch`. Default `same-origin`. */
  credentials?: RequestCredentials | undefined;
  /** Ends the connection when it is aborted. */
  signal?: AbortSignal | undefined;
  /** Where to go on from: the id of the last event that the page has seen. */
  lastEventId?: string | undefined;
  /** Also send the cursor in this query parameter, for servers that don't read `Last-Event-ID`. */
  cursorParam?: string | undefined;
  /** Whether the server may get a POST twice, as with an `Idempotency-Key`. Default: false for POST, true for GET. */
  idempotent?: boolean | undefined;
  /** False: one attempt. Its failure, and the end of the stream, close the connection. Default true. */
  reconnect?: boolean | undefined;
  /** Give up after this many attempts in a row that brought nothing. Default: never. */
  attempts?: number | undefined;
  backoff?: Backoff | undefined;
  /**
   * Milliseconds without a byte, comments included, after which an open stream counts as dead. Default: a little more
   * than two of the heartbeats that the server announces; 300 000 if it announces none. 0: never.
   */
  inactivity?: number | undefined;
  /** Milliseconds until the head of an answer has to be there. Default 120 000. 0: never. */
  timeout?: number | undefined;
  /**
   * How data becomes a value. `"auto"`: what is JSON is parsed, all else is text. `true`: all data is JSON, and other
   * data is an error. `false`: all data is text. Default `"auto"`.
   */
  json?: "auto" | boolean | undefined;
  /** Events whose data is text, whatever it looks like: without it, `"auto"` makes a number of the text `42`. */
  text?: readonly (TextNameOf<E> | "message")[] | undefined;
  /** One connection for all tabs of this origin. */
  shared?: boolean | undefined;
  /** `fetch` or the browser's own EventSource. Default: EventSource only where `fetch` can't stream. */
  transport?: "fetch" | "native" | undefined;
  /** In place of the global `fetch`. */
  fetch?: typeof fetch | undefined;

  /** A stream is open. */
  onOpen?: ((opened: Opened) => void) | undefined;
  /**
   * An attempt or a stream failed. `wait` is null if none follows; else the milliseconds until the next one. Without
   * this callback the console has what ends the connection.
   */
  onError?: ((error: Error, wait: number | null) => void) | undefined;
  /** Events are missing. */
  onGap?: ((gap: Gap) => void) | undefined;
  /** The server stops, and asks its clients to come back. */
  onGoodbye?: ((goodbye: Goodbye) => void) | undefined;
  /** All that was stored has arrived; what follows is live. */
  onCaughtUp?: (() => void) | undefined;
  /** The stream is over for good, as its server says. */
  onEnd?: ((end: End) => void) | undefined;
  /** The state changed. */
  onState?: ((state: State) => void) | undefined;
}

/** What `connect` returns. */
export interface Connection<E extends object = AnyEvents> extends AsyncIterable<EventOf<E>> {
  readonly url: string;
  readonly state: State;
  /** The cursor: the last event ID in force. */
  readonly lastEventId: string;
  /** Why the connection closed, if not in order. */
  readonly error: Error | null;
  /** What the server said at the end of a stream that is over for good. */
  readonly end: End | null;
  /** Where a GET reads the stream that a POST started, if the server named such an address. */
  readonly resumeUrl: string | null;
  /** Settled when the connection is closed: with what the server said at the end, or rejected with `error`. */
  readonly closed: Promise<End | null>;
  /** Calls `handler` for each event of a name. Returns a function that ends that. */
  on<N extends NameOf<E>>(name: N, handler: (event: StreamEvent<N, E[N]>) => void): () => void;
  /** Calls `handler` for each event, whatever its name. */
  on(name: "*", handler: (event: EventOf<E>) => void): () => void;
  /** One handler for each event of `E`. */
  on(handlers: Handlers<E>): () => void;
  /** Ends the connection. Safe to call again. */
  close(): void;
}
