// Hooks for React 18 and newer: a connection lives exactly as long as its component.
//
// Handlers and options may be new functions at each render: the newest are called, and nothing reconnects. What makes a
// new connection is another `url`. A component that comes back (StrictMode, Activity) goes on after the last event. On
// a server nothing is opened.

import { useCallback, useEffect, useRef, useState } from "react";
import { connect } from "./connect.ts";
import { resumeRun, streamRun, type Run, type RunOptions } from "./run.ts";
import type { AnyEvents, ConnectOptions, End, EventOf, Handlers, State } from "./types.ts";

/** Handlers for some events of `E`, or one for all. */
export type EventHandlers<E> = Partial<Handlers<E>> | ((event: EventOf<E>) => void);

export interface Connected {
  readonly state: State;
  /** Why the connection closed, or what its last attempt failed with. */
  readonly error: Error | null;
  readonly end: End | null;
}

const STARTING: Connected = { state: "connecting", error: null, end: null };

/**
 * Reads a stream while the component is mounted.
 *
 *     const { state } = useEvents<Events>("/channels/prices", { price: (e) => setPrice(e.data) });
 *
 * `url` null: nothing is read.
 */
export function useEvents<E extends object = AnyEvents>(
  url: string | URL | null | undefined,
  handlers: EventHandlers<E>,
  options: ConnectOptions<E> = {},
): Connected {
  const newest = useRef({ handlers, options });
  const cursor = useRef({ url: "", id: "" });
  const [connected, setConnected] = useState(STARTING);
  useEffect(() => {
    newest.current = { handlers, options };
  });
  const address = url == null ? null : String(url);
  const { shared, transport } = options;
  useEffect(() => {
    if (address === null) return;
    const id = cursor.current.url === address ? cursor.current.id : newest.current.options.lastEventId;
    setConnected(STARTING);
    const connection = connect<E>(address, {
      ...newest.current.options,
      lastEventId: id ?? "",
      headers: () => {
        const { headers } = newest.current.options;
        return typeof headers === "function" ? headers() : (headers ?? {});
      },
      onOpen: (opened) => newest.current.options.onOpen?.(opened),
      onGap: newest.current.options.onGap && ((gap) => newest.current.options.onGap?.(gap)),
      onGoodbye: (goodbye) => newest.current.options.onGoodbye?.(goodbye),
      onCaughtUp: () => newest.current.options.onCaughtUp?.(),
      onEnd(end) {
        setConnected((known) => ({ ...known, end }));
        newest.current.options.onEnd?.(end);
      },
      onError(error, wait) {
        setConnected((known) => ({ ...known, error }));
        newest.current.options.onError?.(error, wait);
      },
      onState(state) {
        if (left) return;
        setConnected((known) => ({ ...known, state, error: state === "open" ? null : known.error }));
        newest.current.options.onState?.(state);
      },
    });
    let left = false;
    const call = (event: EventOf<E>) => {
      const { handlers } = newest.current;
      if (typeof handlers === "function") handlers(event);
      else (handlers[event.event as keyof typeof handlers] as ((event: EventOf<E>) => void) | undefined)?.(event);
    };
    if (transport === "native" && typeof newest.current.handlers === "object") {
      for (const name of Object.keys(newest.current.handlers)) connection.on(name as never, () => {}); // it must know names
    }
    connection.on("*", call);
    return () => {
      left = true;
      cursor.current = { url: address, id: connection.lastEventId };
      connection.close();
    };
  }, [address, shared, transport]);
  return connected;
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
  const [shown, setShown] = useState(IDLE);
  useEffect(() => {
    newest.current = { url, options };
  });

  const follow = useCallback((make: (options: RunOptions<E>) => Run<E> | null) => {
    run.current?.close();
    run.current = null;
    const { options } = newest.current;
    const mine = () => run.current === made;
    const made = make({
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
    if (!made) return;
    run.current = made;
    setShown({ ...IDLE, state: "connecting" });
    made.onText((text) => mine() && setShown((known) => ({ ...known, text })));
  }, []);

  const start = useCallback(
    (body: unknown) => follow((options) => streamRun<E>(newest.current.url, { ...options, body })),
    [follow],
  );
  const stop = useCallback(async () => run.current?.stop(), []);

  const { remember } = options;
  useEffect(() => {
    if (remember) follow((options) => resumeRun<E>(remember, options));
    return () => {
      run.current?.close();
      run.current = null;
    };
  }, [remember, follow]);
  return { ...shown, start, stop };
}
