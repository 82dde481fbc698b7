// `connect`: handlers, loops, JSON and newswire's own events, over any transport.

import { SourceError } from "./errors.ts";
import type { Raw } from "./decoder.ts";
import { absolute, fetchSource, type Sink, type Transport } from "./source.ts";
import type { AnyEvents, Connection, ConnectOptions, End, EventOf, State, StreamEvent } from "./types.ts";

type Handler = (event: StreamEvent<string, any>) => void;

/** What a loop has not taken yet; `wake` is there once it has waited. */
type Queue = StreamEvent[] & { wake?: () => void };

const OWN = "newswire.";
const MOST_WAITING = 1000; // events that a loop may be behind, before nothing more is read

/**
 * Opens a stream and keeps it: it reconnects after every failure that may pass, and goes on after the last event.
 *
 *     const prices = connect<Events>("/channels/prices");
 *     prices.on("price", (e) => show(e.data.symbol, e.data.value));
 *
 * Or as a loop, which also closes the connection when it is left, and throws the error that ended it:
 *
 *     for await (const e of connect<Events>("/channels/prices")) …
 */
export function connect<E extends object = AnyEvents>(
  url: string | URL,
  options: ConnectOptions<E> = {},
): Connection<E> {
  const handlers = new Map<string, Set<Handler>>();
  const loops = new Set<Queue>();
  const address = String(url);
  let state: State = "connecting";
  let lastEventId = options.lastEventId ?? "";
  let resumeUrl: string | null = null;
  let error: Error | null = null;
  let end: End | null = null;
  let transport: Transport | undefined;
  let room: (() => void) | undefined;
  let settle: (() => void) | undefined;
  const closed = new Promise<End | null>((resolve, reject) => {
    settle = () => (error ? reject(error) : resolve(end));
  });
  closed.catch(() => {}); // `onError` has it: nobody has to look here too

  function call<A extends unknown[]>(handler: ((...args: A) => void) | undefined, ...args: A): void {
    try {
      handler?.(...args);
    } catch (thrown) {
      // A handler's mistake is the page's, and ends neither the stream nor the other handlers.
      queueMicrotask(() => {
        throw thrown;
      });
    }
  }

  function turn(to: State): void {
    if (state !== to) call(options.onState, (state = to));
  }

  // What newswire says itself. Its data is JSON whatever the options say.
  function told(name: string, { data, id }: Raw): void {
    const known = (parsed(data) ?? {}) as object;
    if (name === "gap") call(options.onGap ?? warn, { ...known, id });
    else if (name === "goodbye") call(options.onGoodbye, known);
    else if (name === "live") call(options.onCaughtUp);
    else if (name === "end") {
      end = known;
      call(options.onEnd, end);
      close();
    }
  }

  const sink: Sink = {
    opened(opened) {
      turn("open");
      call(options.onOpen, opened);
    },
    event(raw) {
      lastEventId = raw.id;
      const event = valued(raw);
      if (!event || state === "closed") return;
      const own = raw.event.startsWith(OWN);
      for (const handler of handlers.get(raw.event) ?? []) call(handler, event);
      if (own) return told(raw.event.slice(OWN.length), raw);
      for (const handler of handlers.get("*") ?? []) call(handler, event);
      for (const queue of loops) {
        queue.push(event);
        queue.wake?.();
      }
    },
    moved: (id) => (lastEventId = id),
    lost(failure, wait) {
      turn("connecting");
      if (failure) call(options.onError, failure, wait);
    },
    closed(failure) {
      if (state === "closed") return;
      error = failure;
      turn("closed");
      options.signal?.removeEventListener("abort", close);
      if (failure) options.onError ? call(options.onError, failure, null) : console.error(failure); // no end is silent
      for (const queue of loops) queue.wake?.();
      settle?.();
    },
    resumable: (found) => (resumeUrl = found),
    names: () => handlers.keys(),
    full() {
      return behind(MOST_WAITING) ? new Promise((go) => (room = go)) : undefined;
    },
  };

  function valued({ event, data: text, id, channel }: Raw): StreamEvent | null {
    let data: unknown = text;
    const { json = "auto", text: texts } = options;
    if (json && !(texts as readonly string[] | undefined)?.includes(event)) {
      data = parsed(text);
      if (data === undefined) {
        if (json === true && !event.startsWith(OWN)) {
          call(options.onError, new SourceError("payload", `the data of ${event} is no JSON`, null, text), 0);
          return null;
        }
        data = text;
      }
    }
    return { event, data, text, id, channel };
  }

  /** Whether a loop has more than so many events to take. */
  const behind = (most: number) => [...loops].some((queue) => queue[most]);

  function close(): void {
    transport?.close();
    sink.closed(null);
    room?.();
  }

  function on(what: string | Record<string, Handler>, handler?: Handler): () => void {
    if (typeof what !== "string") {
      const ends = Object.keys(what).map((name) => on(name, what[name]));
      return () => ends.forEach((end) => end());
    }
    let set = handlers.get(what);
    if (!set) handlers.set(what, (set = new Set()));
    const own: Handler = (event) => handler!(event); // the same function may be added twice
    set.add(own);
    transport?.listen?.(what);
    return () => void set.delete(own);
  }

  function loop(): AsyncIterator<EventOf<E>> {
    const queue: Queue = []; // from now on, not from the first `next`
    loops.add(queue);
    async function* events() {
      try {
        for (;;) {
          if (queue.length) {
            yield queue.shift() as EventOf<E>;
            if (!behind(MOST_WAITING / 2)) room?.();
          } else if (state !== "closed") await new Promise<void>((go) => (queue.wake = go));
          else if (error) throw error;
          else return;
        }
      } finally {
        loops.delete(queue);
      }
    }
    const iterator = events();
    // A generator puts off its end until its `next` is settled, and runs no `finally` before the first one. A reader that
    // leaves a quiet stream, as a cancelled ReadableStream does, waits for no event.
    for (const way of ["return", "throw"] as const) {
      const leave = iterator[way].bind(iterator);
      iterator[way] = (value?: any) => {
        close(); // wakes a `next` that waits
        loops.delete(queue);
        return leave(value);
      };
    }
    return iterator;
  }

  transport = choose(address, options as unknown as ConnectOptions, sink);
  if (options.signal?.aborted) queueMicrotask(close);
  else options.signal?.addEventListener("abort", close);
  return {
    url: address,
    get state() {
      return state;
    },
    get lastEventId() {
      return lastEventId;
    },
    get error() {
      return error;
    },
    get end() {
      return end;
    },
    get resumeUrl() {
      return resumeUrl;
    },
    closed,
    on: on as Connection<E>["on"],
    close,
    [Symbol.asyncIterator]: loop,
  };
}

/** The value of a text of JSON; undefined if it is none. */
function parsed(text: string): unknown {
  // The first character says of most texts that they are no JSON, and costs nothing. Text that begins with a space is
  // no value of a program's.
  if (!/^[[{"\dtfn-]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Loss is never silent. */
export function warn(gap: unknown): void {
  console.warn("newswire: missing events", gap);
}

function choose(url: string, options: ConnectOptions, sink: Sink): Transport {
  absolute(url); // what is no address throws at once
  const tabs = globalThis.navigator?.locks && globalThis.BroadcastChannel && globalThis.location; // node has but some
  const native = options.transport ? options.transport === "native" : !globalThis.Response || !("body" in Response.prototype);
  // What few pages need is loaded when one does.
  const load = native ? import("./native.ts") : options.shared && tabs ? import("./shared.ts") : null;
  if (!load) return fetchSource(url, options, sink);
  let inner: Transport | undefined;
  let closed = false;
  load
    .catch((error) => {
      // No network now, or a deployment has taken the file away. A connection of its own needs none.
      if (native) throw error;
      return { source: fetchSource };
    })
    .then(({ source }) => closed || (inner = source(url, options, sink)))
    .catch(sink.closed);
  return {
    close() {
      closed = true;
      inner?.close();
    },
    listen: (event) => inner?.listen?.(event),
  };
}
