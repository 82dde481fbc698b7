// The browser's own EventSource, watched over: for browsers whose `fetch` can't stream, and `transport: "native"`.
//
// A browser gives up for good at any wrong answer, such as a proxy's 502 during a deployment. Then another EventSource
// goes on, with the cursor in the query. It tells neither statuses nor comments, sends no headers, and hears only the
// event types that were asked for.

import { SourceError } from "./errors.ts";
import { absolute, type Sink, type Transport } from "./source.ts";
import type { ConnectOptions } from "./types.ts";

const OWN = ["message", "newswire.gap", "newswire.goodbye", "newswire.end", "newswire.live"];

export function source(url: string, options: ConnectOptions, sink: Sink): Transport {
  if (options.headers || options.body != null || !/^get$/i.test(options.method ?? "get")) {
    throw new TypeError("an EventSource of the browser sends GET requests without headers of your own");
  }
  const { first = 1000, cap = 30_000 } = options.backoff ?? {};
  const whole = absolute(url);
  const names = new Set([...OWN, ...(sink.names?.() ?? [])]);
  names.delete("*");
  let id = options.lastEventId ?? "";
  let failures = 0; // attempts in a row without a stream, the browser's own among them
  let brought = false; // a stream, by the last attempt
  let opens = 0;
  let inner: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let closed = false;

  const take = (message: Event): void => {
    const { type, data, lastEventId } = message as MessageEvent<string>;
    const own = lastEventId !== id;
    if (own) sink.moved((id = lastEventId));
    sink.event({ event: type, data, id, own, channel: null });
  };

  function open(): void {
    clearTimeout(timer);
    inner?.close();
    const address = new URL(whole);
    if (id) address.searchParams.set(options.cursorParam ?? "last_event_id", id);
    const current = (inner = new EventSource(address, { withCredentials: options.credentials === "include" }));
    current.onopen = () => {
      brought = true;
      const headers = new Headers({ "content-type": "text/event-stream" });
      sink.opened({ url: address.href, status: 200, headers, reconnected: opens++ > 0 });
    };
    current.onerror = () => {
      const error = new SourceError("network", `${url}: no connection, or a wrong answer`);
      if (options.reconnect === false) return finish(error); // whether it ended or broke, no one says
      failures = brought ? 0 : failures + 1;
      brought = false;
      if (failures >= (options.attempts ?? Infinity)) {
        return finish(new SourceError("attempts", `${url}: ${failures} attempts for nothing`, null, "", error));
      }
      if (current.readyState !== EventSource.CLOSED) return sink.lost(error, 0); // the browser tries again by itself
      const wait = Math.round(Math.random() * Math.min(cap, first * 2 ** Math.min(failures, 30)));
      sink.lost(error, wait);
      timer = setTimeout(open, wait);
    };
    for (const name of names) current.addEventListener(name, take);
  }

  // A wake shortens the wait. A browser keeps no page with an open request for the way back.
  function wake({ type }: Event): void {
    if (type === "pagehide") {
      inner?.close();
      return sink.lost(null, 0);
    }
    if (type !== "online" && globalThis.document?.hidden) return;
    if (inner?.readyState === EventSource.CLOSED) open();
  }

  function finish(error: Error | null): void {
    if (closed) return;
    closed = true;
    clearTimeout(timer);
    inner?.close();
    for (const name of ["pagehide", "pageshow", "online"]) globalThis.removeEventListener?.(name, wake);
    globalThis.document?.removeEventListener("visibilitychange", wake);
    sink.closed(error);
  }

  for (const name of ["pagehide", "pageshow", "online"]) globalThis.addEventListener?.(name, wake);
  globalThis.document?.addEventListener("visibilitychange", wake);
  open();
  return {
    close: () => finish(null),
    listen(name) {
      if (name === "*" || names.has(name)) return;
      names.add(name);
      inner?.addEventListener(name, take);
    },
  };
}
