// One stream over fetch, kept alive: the same decisions as `newswire.client.protocol` in Python.
//
// An attempt opens a stream and reads it to its end. What follows is a wait and another attempt, or the end for good:
//
//     attempt ── 200, text/event-stream ──► read ── end, break, silence ──► wait ──► attempt …
//        ├── no connection, 5xx, 408, 425, 429, a token that has expired ───► wait
//        └── 204, another 4xx, a wrong type, a POST that can't go on ────────► closed
//
// The cursor is all the state that a reconnect needs. Nothing here knows types, JSON or handlers: `connect` does.

import { decoder, type Raw } from "./decoder.ts";
import { SourceError } from "./errors.ts";
import type { ConnectOptions, HeaderFields, Opened } from "./types.ts";

/** What a transport reports. */
export interface Sink {
  opened(opened: Opened): void;
  event(event: Raw): void;
  /** The cursor moved, with or without an event. */
  moved(id: string): void;
  /** An attempt or a stream is over; `error` is null if it ended in order. Another attempt follows in `wait` ms. */
  lost(error: Error | null, wait: number): void;
  /** It is over for good. */
  closed(error: Error | null): void;
  /** A POST can be read at this address. */
  resumable?(url: string): void;
  /** A promise if the reader is behind: nothing more is read until it is settled. */
  full?(): Promise<void> | undefined;
  /** The event types that somebody handles. */
  names?(): Iterable<string>;
}

/** A stream that is kept alive, however its bytes come. */
export interface Transport {
  close(): void;
  /** The first handler of an event type was added. Only the native transport needs to know. */
  listen?(event: string): void;
}

const SECOND = 1000;
const HEALTHY = 10 * SECOND; // a stream that was open for so long clears the count of failures
const SHORTEST = 100; // between the beginnings of two attempts: `retry: 0` makes no loop
const BODY = 1024; // characters of an error's body that are kept
const LONGEST_ID = 4096; // bytes; servers take 8 KB for all fields, and refuse a longer request for good
const LONGEST = 2 ** 31 - 1; // ms that a timer can wait; a longer one would be due at once

export function fetchSource(url: string, options: ConnectOptions, sink: Sink): Transport {
  const { retry: base = SECOND, first: step = SECOND, cap = 30 * SECOND, longest = 3600 * SECOND } = options.backoff ?? {};
  const { method, url: first } = checked(url, options); // now: the page's own address may change
  const own = new URL(first);
  const json = / (Object|Array|Number|Boolean)]/.test({}.toString.call(options.body));
  const body = (json ? JSON.stringify(options.body) : options.body) as BodyInit | undefined; // now: what it can't say throws
  const posts = !/^(GET|HEAD)$/.test(method);
  const once = options.reconnect === false;
  const repeatable = options.idempotent ?? !posts;
  let at = first; // where a POST was answered, after redirects
  let id = options.lastEventId ?? "";
  let resumeUrl = "";
  let retry: number | undefined;
  let failures = 0; // since the last healthy stream; the back-off grows with it
  let fruitless = 0; // attempts in a row that brought nothing
  let opens = 0;
  let sent = false; // a request; a server may have taken it
  let fields = ""; // of the last request: those of the user
  let refused: [fields: string, error: Error] | undefined; // by a 401, since a stream was open
  let closed = false;
  let controller = new AbortController();
  let hurry: (() => void) | undefined; // ends the wait, if a wake may
  let woken = 0; // when that was: a connection that died meanwhile fails only then
  let left = false; // the page was, and its request is given up

  // -- the watchdog: one timer, looked at again when it is due

  let heard = 0;
  let limit = 0;
  let late = false; // the second's grace of a page that was asleep is used up
  let timer: ReturnType<typeof setTimeout> | undefined;

  function hear(): void {
    heard = now();
    late = false;
  }

  function watch(milliseconds: number): void {
    limit = milliseconds;
    hear();
    check();
  }

  function check(): void {
    clearTimeout(timer);
    if (!limit) return;
    const left = heard + limit - now();
    // Far too late, the page itself was asleep: what came meanwhile is read first. But once only: the timers of a tab
    // that is hidden for long are always late.
    if (left < -SECOND && !late) {
      late = true;
      heard = now() - limit + SECOND;
    } else if (left <= 0) return controller.abort(new SourceError("timeout", `${url}: nothing came for ${limit} ms`));
    timer = setTimeout(check, Math.min(Math.max(left, SECOND / 20), LONGEST));
  }

  // The network is back, somebody looks, or the page was frozen: no wait goes on, and a stream that was silent has a second
  // to show life. Chromium gives a page nothing more of an answer of which something came while it was frozen, and no error.
  function wake({ type }: Event): void {
    if (type === "pagehide") {
      // A browser keeps no page with an open request for the way back (web.dev, "Back/forward cache").
      left = !once && mayGoOn();
      if (left) controller.abort();
      return;
    }
    const thawed = type === "resume";
    if (thawed ? !mayGoOn() : type !== "online" && globalThis.document?.hidden) return;
    hurry?.();
    woken = now();
    if (thawed || woken - heard > limit / 2) {
      heard = Math.min(heard, woken - limit + SECOND);
      check();
    }
  }

  function listen(add: "addEventListener" | "removeEventListener"): void {
    for (const name of ["pagehide", "pageshow", "online"]) globalThis[add]?.(name, wake);
    for (const name of ["visibilitychange", "resume"]) globalThis.document?.[add](name, wake);
  }

  // -- the end

  function finish(error: Error | null): void {
    if (closed) return;
    closed = true;
    limit = 0;
    clearTimeout(timer);
    listen("removeEventListener");
    controller.abort();
    hurry?.();
    sink.closed(error);
  }

  const floor = () => Math.min(retry ?? base, longest);

  function delay(): number {
    return floor() + Math.random() * Math.min(cap, Math.max(floor(), failures && step * 2 ** (failures - 1)));
  }

  // -- one attempt

  /** Whether another request may follow the one that runs. */
  const mayGoOn = () => repeatable || !sent || !!(id || resumeUrl);

  /** Whether the next request reads on where an earlier one has begun. */
  const goesOn = () => posts && !!(resumeUrl || (!repeatable && id));

  async function request(): Promise<Response> {
    const { signal } = controller;
    let given = options.headers;
    if (typeof given === "function") {
      // A token may never come.
      const cut = (_: unknown, reject: (why: unknown) => void) => signal.addEventListener("abort", () => reject(signal.reason));
      given = await Promise.race([given(), new Promise<never>(cut)]);
    }
    const onward = goesOn();
    const target = new URL(onward ? resumeUrl || at : own);
    const foreign = target.origin !== own.origin;
    // A server must not make us send its reader's credentials elsewhere.
    const headers = headersOf(foreign ? {} : given);
    fields = JSON.stringify([...headers]);
    if (fields === refused?.[0]) throw refused[1];
    if (onward) headers.delete("content-type");
    else if (json && !headers.has("content-type")) headers.set("content-type", "application/json");
    if (id) {
      const bytes = new TextEncoder().encode(id);
      // "encoded as UTF-8": fetch takes bytes in the disguise of characters
      if (bytes.length <= LONGEST_ID) headers.set("last-event-id", String.fromCharCode(...bytes));
      else console.warn(`newswire: ${url}: the last event ID is too long for a header`);
      if (options.cursorParam) target.searchParams.set(options.cursorParam, id);
    }
    sent = true;
    return (options.fetch ?? fetch)(target, {
      method: onward ? "GET" : method,
      headers,
      body: onward ? undefined : body,
      cache: "no-store",
      credentials: foreign ? "omit" : (options.credentials ?? "same-origin"),
      signal,
    });
  }

  async function read(answer: Response): Promise<boolean> {
    let bye = false;
    let before = id;
    let progress = false;
    const usual = options.inactivity ?? 300 * SECOND;
    const feed = decoder(
      {
        event(event) {
          progress = true;
          bye ||= event.event === "newswire.goodbye";
          if (!closed) sink.event(event);
        },
        id(value) {
          id = value;
          if (!closed) sink.moved(id);
        },
        retry: (milliseconds) => (retry = milliseconds),
        comment(text) {
          const beat = /^heartbeat ([\d.]+)$/.exec(text)?.[1];
          if (beat && options.inactivity == null) limit = +beat * 2 * SECOND + SECOND;
        },
      },
      id,
    );
    const text = new TextDecoder("utf-8", { ignoreBOM: true });
    const reader = answer.body!.getReader();
    watch(usual);
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done || closed) break;
        const before = limit;
        hear();
        feed(text.decode(value, { stream: true }));
        if (limit !== before) check();
        if (bye) break;
        const full = sink.full?.();
        if (full) {
          const wanted = limit;
          watch(0); // a reader that is behind says nothing of the server
          await full;
          if (closed) break;
          watch(wanted);
        }
      }
    } finally {
      progress ||= id !== before;
      if (progress) fruitless = 0;
      reader.cancel().catch(() => {});
    }
    if (!bye) failures += progress ? 0 : 1;
    return bye;
  }

  // Returns the milliseconds to wait, or null if it is over; and whether a wake may end the wait.
  async function attempt(): Promise<[Error | null, number, boolean] | null> {
    let opened = 0;
    let answer: Response | undefined;
    left = false;
    const post = posts && !goesOn();
    try {
      controller = new AbortController();
      fruitless++;
      watch(options.timeout ?? 120 * SECOND);
      answer = await request();
      if (closed) return null;
      const { status, headers } = answer;
      if (status === 204) return finish(null), null;
      if (post) at = answer.url || at;
      const place = post && answer.ok && (headers.get("content-location") || headers.get("location"));
      if (place) sink.resumable?.((resumeUrl = new URL(place, answer.url || own).href));
      const kind = headers.get("content-type") ?? "none";
      const stream = /^text\/event-stream\s*(;|$)/i.test(kind);
      if (stream && (status === 200 || (status === 201 && post))) {
        opened = now();
        refused = undefined;
        sink.opened({ url: answer.url, status, headers, reconnected: opens++ > 0 });
        const bye = await read(answer);
        if (closed) return null;
        if (once || !mayGoOn()) return finish(null), null;
        if (now() - opened > HEALTHY) failures = 0;
        // A goodbye gives each client its own time; else a thousand would come back at once.
        return [null, bye ? floor() : delay(), !bye];
      }
      if (place) {
        void answer.body?.cancel();
        return [null, 0, true]; // the POST has started something that is read elsewhere
      }
      const body = await start(answer);
      if (answer.ok && !stream) throw new SourceError("content-type", `${url} answered ${kind}, no event stream`, answer, body);
      const error = new SourceError("status", `${url} answered ${status}`, answer, body);
      if (status === 401 && typeof options.headers === "function" && !refused) {
        // The next token is asked for at once. Nothing was done, so a POST may go out again.
        refused = [fields, error];
        sent = false;
        fruitless--;
        return [error, 0, true];
      }
      const after = retryAfter(headers);
      const asked = after != null && [429, 503].includes(status); // the server wants the request once more
      const notNow = status >= 500 || [408, 425, 429].includes(status);
      if (!notNow || once || !(mayGoOn() || asked)) throw error;
      failures++;
      if (after == null) return [error, delay(), true];
      const least = Math.min(after, longest);
      return [error, least + Math.random() * Math.min(least / 10, cap), false];
    } catch (thrown) {
      if (closed) return null;
      if (left) return [null, delay(), true];
      const cause = controller.signal.reason ?? thrown; // Chromium throws an AbortError where a body was being read
      const known = cause instanceof SourceError;
      if (known && cause.code !== "timeout") return finish(cause), null;
      const message = `${url}: ${opened ? "the stream broke" : "no answer"} (${cause})`;
      const error = known ? cause : new SourceError("network", message, null, "", cause);
      if (once) return finish(error), null;
      if (!mayGoOn()) {
        return finish(new SourceError("not-resumable", `${error.message}, and nothing says from where to go on`, answer, "", cause)), null;
      }
      failures = opened && now() - opened > HEALTHY ? 0 : failures + 1;
      return [error, delay(), true];
    }
  }

  async function run(): Promise<void> {
    while (!closed) {
      const began = now();
      const next = await attempt();
      if (!next || closed) return;
      limit = 0;
      clearTimeout(timer);
      controller.abort();
      const [error, asked, wakes] = next;
      if (fruitless >= (options.attempts ?? Infinity)) {
        return finish(new SourceError("attempts", `${url}: ${fruitless} attempts for nothing`, null, "", error));
      }
      const over = now();
      const least = wakes && over - woken < 2 * SECOND ? 0 : asked;
      woken = 0; // once
      const wait = Math.min(Math.round(Math.max(least, began + SHORTEST - over)), LONGEST);
      sink.lost(error, wait);
      if (closed) return;
      await new Promise<void>((go) => {
        const sleep = setTimeout(go, wait);
        hurry = () => {
          if (!wakes && !closed) return;
          clearTimeout(sleep);
          go();
        };
      });
      hurry = undefined;
    }
  }

  listen("addEventListener");
  queueMicrotask(run); // handlers that are added right after `connect` hear everything
  return { close: () => finish(null) };
}

let latest = 0;
let ahead = 0; // of `Date`

/** The time in milliseconds, that of a sleep too. It stands still where the machine's clock is set back. */
export function now(): number {
  const time = Date.now() + ahead;
  if (time < latest) ahead += latest - time;
  return (latest = Math.max(time, latest));
}

/** An address as the page means it. Throws a TypeError if it is none. */
export const absolute = (url: string) => new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);

function headersOf(given?: HeaderFields): Headers {
  const headers = new Headers({ accept: "text/event-stream" });
  const pairs = given instanceof Headers ? given : Object.entries(given ?? {});
  for (const [name, value] of pairs) value != null && headers.set(name, value);
  return headers;
}

/** A request like those of the attempts. Throws a TypeError at what no request can carry, as each of them would. */
export function checked(url: string, options: Pick<ConnectOptions, "method" | "headers" | "body">): Request {
  const body = options.body == null ? undefined : ""; // only whether there is one: a stream can be read but once
  const headers = headersOf(options.headers as HeaderFields); // none of a function, which has no entries
  return new Request(absolute(url), { method: options.method ?? (body == null ? "GET" : "POST"), headers, body });
}

/** The first characters of an answer's body, as far as they come. */
async function start(answer: Response): Promise<string> {
  const reader = answer.body?.getReader();
  const text = new TextDecoder();
  let body = "";
  try {
    for (let part; reader && body.length < BODY && !(part = await reader.read()).done; ) {
      body += text.decode(part.value, { stream: true });
    }
  } catch {
    // the status says enough
  }
  reader?.cancel().catch(() => {});
  return body.slice(0, BODY);
}

/** The milliseconds that a `Retry-After` asks for: a number of seconds, or a date by the server's own clock. */
function retryAfter(headers: Headers): number | null {
  const value = headers.get("retry-after") ?? "";
  if (/^\d+$/.test(value)) return +value * SECOND;
  const wait = Date.parse(value) - (Date.parse(headers.get("date") ?? "") || Date.now());
  return isNaN(wait) ? null : Math.max(0, wait);
}
