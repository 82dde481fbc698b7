// Hooks for React 18 and newer: a connection lives exactly as long as its component.
//
// Handlers and options may be new functions at each render: the newest are called, and nothing reconnects. What makes a
// new connection is another `url`. A component that comes back (StrictMode, Activity) goes on after the last event. On
// a server nothing is opened.

import { useCallback, useEffect, useRef, useState } from "react";
import { connect, warn } from "./connect.ts";
import { resumeRun, streamRun, type Run, type RunOptions } from "./run.ts";
import { checked } from "./source.ts";
import type { AnyEvents, Connection, ConnectOptions, End, EventOf, Handlers, NameOf, State } from "./types.ts";

/** Handlers for some events of `E`, or one for all. */
export type EventHandlers<E> = Partial<Handlers<E>> | ((event: EventOf<E>) => void);

export interface Connected {
  readonly state: State;
  /** Why the connection closed, or what its last attempt failed with. */
  readonly error: Error | null;
  readonly end: End | null;
}

const STARTING: Connected = { state: "connecting", error: null, end: null };
const NOTHING: Connected = { state: "closed", error: null, end: null };

/**
 * Reads a stream while the component is mounted.
 *
 *     const { state } = useEvents<Events>("/channels/prices", { price: (e) => setPrice(e.data) });
 *
 * `url` null: nothing is read, and the state is `closed`.
 */
export function useEvents<E extends object = AnyEvents>(
  url: string | URL | null | undefined,
  handlers: EventHandlers<E>,
  options: ConnectOptions<E> = {},
): Connected {
  const newest = useRef({ handlers, options });
  const cursor = useRef({ url: "", id: "" });
  const hear = useRef<(() => void) | null>(null);
  const [{ of, connected }, setShown] = useState({ of: "", connected: STARTING });
  useEffect(() => {
    newest.current = { handlers, options };
    hear.current?.();
  });
  const address = url == null ? null : String(url);
  const { shared, transport } = options;
  useEffect(() => {
    if (address === null) return;
    const id = cursor.current.url === address ? cursor.current.id : newest.current.options.lastEventId;
    let left = false;
    const show = (change: Partial<Connected>) => {
      if (!left) setShown((known) => ({ of: address, connected: { ...known.connected, ...change } }));
    };
    show(STARTING);
    let connection: Connection<E>;
    try {
      checked(address, newest.current.options); // the function below hides what these headers are
      connection = connect<E>(address, {
        ...newest.current.options,
        lastEventId: id ?? "",
        headers: transport === "native" ? newest.current.options.headers : () => {
          const { headers } = newest.current.options;
          return typeof headers === "function" ? headers() : (headers ?? {});
        },
        onOpen: (opened) => newest.current.options.onOpen?.(opened),
        onGap: (gap) => (newest.current.options.onGap ?? warn)(gap),
        onGoodbye: (goodbye) => newest.current.options.onGoodbye?.(goodbye),
        onCaughtUp: () => newest.current.options.onCaughtUp?.(),
        onEnd(end) {
          show({ end });
          newest.current.options.onEnd?.(end);
        },
        onError(error, wait) {
          show({ error });
          newest.current.options.onError?.(error, wait);
        },
        onState(state) {
          if (left) return;
          show(state === "open" ? { state, error: null } : { state });
          newest.current.options.onState?.(state);
        },
      });
    } catch (error) {
      return show({ state: "closed", error: error as Error }); // no address, or what no request can carry
    }
    connection.on("*", (event) => {
      const { handlers } = newest.current;
      if (typeof handlers === "function") handlers(event);
    });
    // By name too: `*` has none of newswire's own events, and the browser's EventSource has to know all names.
    const names = new Set<string>();
    hear.current = () => {
      if (typeof newest.current.handlers === "function") return;
      for (const name of Object.keys(newest.current.handlers)) {
        if (names.has(name)) continue;
        names.add(name);
        connection.on(name as NameOf<E>, (event) => {
          const { handlers } = newest.current;
          if (typeof handlers === "object") handlers[name as NameOf<E>]?.(event);
        });
      }
    };
    hear.current();
    return () => {
      left = true;
      hear.current = null;
      cursor.current = { url: address, id: connection.lastEventId };
      connection.close();
    };
  }, [address, shared, transport]);
  return address === null ? NOTHING : of === address ? connected : STARTING;
}

export interface RunState {
  /** `idle`: no run. */
  readonly state: State | "idle";
  readonly text: string;
  readonly end: End | null;
  readonly error: Error | null;
  /** Starts a run with this body; one that is still read is left to itself. */
  readonly start: (body: unknown) => void;
  /** Asks the server to stop the run. */
  readonly stop: () => Promise<void>;
}

const IDLE = { state: "idle" as State | "idle", text: "", end: null as End | null, error: null as Error | null };

/**
 * A run, started by `start` and read to its end. With `remember` a component that is mounted again, even in a page that
 * was loaded again, goes on with it.
 *
 *     const { text, state, start, stop } = useRun("/answers", { remember: "chat.42" });
 */
export function useRun<E extends object = AnyEvents>(url: string | URL, options: RunOptions<E> = {}): RunState {
  const newest = useRef({ url, options });
  const run = useRef<Run<E> | null>(null);
  const broken = useRef<{ of?: string | undefined; url: string | null } | null>(null); // what was read when it was unmounted
  const [shown, setShown] = useState(IDLE);
  useEffect(() => {
    newest.current = { url, options };
  });

  const follow = useCallback((make: (options: RunOptions<E>) => Run<E> | null) => {
    run.current?.close();
    run.current = null;
    const { options } = newest.current;
    const mine = () => run.current === made;
    const made: Run<E> | null = make({
      ...options,
      onState(state) {
        if (mine()) setShown((known) => ({ ...known, state }));
        options.onState?.(state);
      },
      onError(error, wait) {
        if (mine()) setShown((known) => ({ ...known, error }));
        options.onError?.(error, wait);
      },
      onOpen(opened) {
        if (mine()) setShown((known) => ({ ...known, error: null }));
        options.onOpen?.(opened);
      },
      onEnd(end) {
        if (mine()) setShown((known) => ({ ...known, end }));
        options.onEnd?.(end);
      },
    });
    if (!made) return null;
    run.current = made;
    setShown({ ...IDLE, state: "connecting" });
    made.onText((text) => mine() && setShown((known) => ({ ...known, text })));
    return made;
  }, []);

  const start = useCallback(
    (body: unknown) => void follow((options) => streamRun<E>(newest.current.url, { ...options, body })),
    [follow],
  );
  const stop = useCallback(async () => run.current?.stop(), []);

  const { remember } = options;
  const shownOf = useRef(remember);
  useEffect(() => {
    const url = broken.current?.of === remember && broken.current?.url;
    const found =
      (remember && follow((options) => resumeRun<E>(remember, options))) ||
      (url && follow((options) => streamRun<E>(url, { ...options, method: "GET", body: undefined })));
    // What another run has left behind, or one that can't be found again.
    if (!found && (broken.current || shownOf.current !== remember)) setShown(IDLE);
    shownOf.current = remember;
    broken.current = null;
    return () => {
      const known = run.current;
      if (known && known.connection.state !== "closed") broken.current = { of: remember, url: known.url };
      known?.close();
      run.current = null;
    };
  }, [remember, follow]);
  return { ...shown, start, stop };
}
