// Runs: answers and jobs that a POST starts, and that go on without it.
//
//     const run = streamRun("/answers", { body: { question }, remember: "chat.42" });
//     run.onText((text) => (place.textContent = text));
//     const end = await run.done;                       // { reason: "done", result: … }
//
// And when the page was loaded again: `resumeRun("chat.42")` reads the same answer from its beginning.

import { connect } from "./connect.ts";
import { absolute } from "./source.ts";
import type { AnyEvents, Connection, ConnectOptions, End, EventOf, HeaderFields, StreamEvent } from "./types.ts";

export interface RunOptions<E extends object = AnyEvents> extends Omit<ConnectOptions<E>, "shared" | "transport"> {
  /** Remember under this name, until it ends, which run it is: `resumeRun` finds it after the page was loaded again. */
  remember?: string | undefined;
  /** Where to remember it. Default `sessionStorage`: each tab has its own. */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem"> | undefined;
  /** Where a POST stops the run. Default: its address and `/stop`. */
  stopUrl?: string | ((resumeUrl: string) => string) | undefined;
}

/** A run, as its reader sees it. */
export interface Run<E extends object = AnyEvents> extends AsyncIterable<EventOf<E>> {
  /** The text so far. */
  readonly text: string;
  /** Where the run can be read; null until the server has said it. */
  readonly url: string | null;
  /** The stream that it comes by. */
  readonly connection: Connection<E>;
  /** Why it ended, once it has. */
  readonly end: End | null;
  /** The end of the run; rejected if it can't be read. */
  readonly done: Promise<End>;
  /** Calls `handler` with the text so far, and with what was new, after each change; returns a function that ends that. */
  onText(handler: (text: string, added: string) => void): () => void;
  /** As `Connection.on`. */
  readonly on: Connection<E>["on"];
  /** Asks the server to stop the run, for every reader. `close` only stops reading. */
  stop(): Promise<void>;
  close(): void;
}

/** What an event means for a run: text that it adds, and the end, for formats whose end is not newswire's. */
type Meaning = {
  text?: string | null;
  end?: End;
  /** The format is one of an AI API. There a stream that is opened again begins with what its reader has already. */
  repeats?: boolean;
};

type Remembered = { url?: string; start?: string; body?: unknown; key?: string; chat?: boolean };

const PREFIX = "newswire:run:";
const STOPPING = 5000; // ms that a stop waits for the address of a run whose POST is not answered yet

/** Starts a run by a POST, and reads it to its end through every failure. Without `body` it reads the run at `url`. */
export function streamRun<E extends object = AnyEvents>(url: string | URL, options: RunOptions<E> = {}): Run<E> {
  const starts = options.body != null || /^post$/i.test(options.method ?? "");
  return read(String(url), options, starts ? newKey() : null);
}

function newKey(): string {
  // Not on plain-http addresses of a local network: there `crypto` has no randomUUID.
  return crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
}

/**
 * Goes on with a run that was remembered, from its beginning: the page that had shown it is gone. Null if there is none,
 * or it has ended.
 *
 * A page that was closed before its POST was answered knows no address. With `idempotent: true` the POST is then sent
 * again with the same `Idempotency-Key`, and finds what it started.
 */
export function resumeRun<E extends object = AnyEvents>(name: string, options: RunOptions<E> = {}): Run<E> | null {
  const { url, start, body, key, chat: isChat } = remembered(name, options) ?? {};
  const more = { ...options, remember: name };
  const format = isChat ? chat : newswire;
  if (url) return read(url, { ...more, method: "GET", body: undefined }, null, format);
  const again = { ...more, method: options.method ?? "POST", body };
  return options.idempotent && start ? read(start, again, key ?? newKey(), format) : null;
}

// Storage may be forbidden, full, or hold what somebody else wrote. A run needs none of it.
function storageOf({ storage }: { storage?: RunOptions["storage"] }): RunOptions["storage"] {
  try {
    return storage ?? sessionStorage;
  } catch {
    return undefined;
  }
}

function remembered(name: string, options: { storage?: RunOptions["storage"] }): Remembered | null {
  try {
    return JSON.parse(storageOf(options)?.getItem(PREFIX + name) ?? "null");
  } catch {
    return null;
  }
}

/** Whether JSON has all of a body: a form, a blob or a buffer would come back as another one. */
const isPlain = (body: unknown) => / (Undefined|Null|String|Object|Array|Number|Boolean)]/.test({}.toString.call(body));

/** How the events of one run are read. */
type Format = (event: StreamEvent<string, any>) => Meaning;

const newswire: Format = (event) => ({ text: event.event === "message" ? event.text : null });

function read<E extends object>(url: string, options: RunOptions<E>, key: string | null, format = newswire): Run<E> {
  const { remember, storage: _, headers, ...rest } = options;
  const storage = remember ? storageOf(options) : undefined;
  const whole = absolute(url).href;
  const listeners = new Set<(text: string, added: string) => void>();
  let text = "";
  let own: End | null = null; // the end, in a format of its own
  let left = false; // by `close`, the end of a loop or a signal
  let again = false; // the stream was opened again, and has brought nothing yet

  let answered: (() => void) | undefined;
  const known = new Promise<void>((go) => (answered = go)); // the POST has one, or will never have one

  function keep(what: Remembered | null): void {
    try {
      storage?.removeItem(PREFIX + remember); // what was before must not stand for this run
      if (what) storage?.setItem(PREFIX + remember, JSON.stringify({ ...what, chat: format !== newswire }));
    } catch (error) {
      console.warn("newswire: the run can't be remembered", error);
    }
  }

  function withKey(own: HeaderFields | undefined): Record<string, string> {
    const given = new Headers();
    for (const [name, value] of own instanceof Headers ? own : Object.entries(own ?? {})) {
      if (value != null) given.set(name, value);
    }
    if (key && !given.has("idempotency-key")) given.set("idempotency-key", key);
    return Object.fromEntries(given);
  }

  const connection = connect<E>(url, {
    ...(rest as ConnectOptions<E>),
    headers: typeof headers === "function" ? async () => withKey(await headers()) : withKey(headers),
    text: [...(rest.text ?? []), "message"],
    onOpen(opened) {
      if (connection.resumeUrl) keep({ url: connection.resumeUrl });
      again = opened.reconnected;
      answered?.();
      options.onOpen?.(opened);
    },
    onGap(gap) {
      text = ""; // what is missing can't be shown as if it were all
      options.onGap?.(gap);
    },
    onEnd(end) {
      keep(null);
      options.onEnd?.(end);
    },
  });
  // Now: what no request can carry has thrown, and is no run to remember.
  if (!key) keep({ url });
  else keep(isPlain(options.body) ? { start: url, body: options.body, key } : null);
  connection.on("*", (event) => {
    const { text: added, end, repeats } = format(event as StreamEvent);
    if (again && repeats) text = "";
    again = false;
    if (added) {
      text += added;
      for (const listener of [...listeners]) listener(text, added);
    }
    if (end) {
      own = end;
      options.onEnd?.(end);
      connection.close();
    }
  });
  const address = () => connection.resumeUrl ?? (key ? null : whole);
  const done = connection.closed.then(
    (end) => {
      left ||= !!options.signal?.aborted;
      if (!left) keep(null); // a page that only stops reading may come back
      // The end of a connection is not the end of a run.
      return end ?? own ?? { reason: left ? "closed" : "interrupted" };
    },
    (error) => {
      const { code, status } = error;
      const refused = !address() && code === "status" && status < 500 && status !== 401; // a login may help
      if (refused || status === 404 || status === 410) keep(null); // it was never started, or is kept no longer
      throw error;
    },
  );
  done.catch(() => {}).finally(answered);

  function close(): void {
    left = true;
    connection.close();
  }

  return {
    get text() {
      return text;
    },
    get url() {
      return address();
    },
    get end() {
      return connection.end ?? own;
    },
    connection,
    done,
    on: connection.on,
    onText(handler) {
      listeners.add(handler);
      return () => void listeners.delete(handler);
    },
    async stop() {
      // The server may have started it already.
      if (!address()) await Promise.race([known, new Promise((go) => setTimeout(go, STOPPING))]);
      const here = address();
      if (!here) {
        close(); // it can't be read again, nor stopped in another way
        return keep(null);
      }
      const { stopUrl = below } = options;
      const target = typeof stopUrl === "string" ? stopUrl : stopUrl(here);
      const given = withKey(typeof headers === "function" ? await headers() : headers);
      delete given["idempotency-key"];
      delete given["content-type"];
      const answer = await (options.fetch ?? fetch)(target, {
        method: "POST",
        headers: given,
        credentials: options.credentials ?? "same-origin",
      });
      void answer.body?.cancel();
      if (!answer.ok) throw new Error(`${target} answered ${answer.status}`);
    },
    close,
    [Symbol.asyncIterator]() {
      const loop = connection[Symbol.asyncIterator]();
      return {
        next: () => loop.next(),
        return() {
          close();
          return loop.return!();
        },
      };
    },
  };
}

/** The address `stop` below another one. */
function below(known: string): string {
  const place = new URL(known);
  place.pathname = `${place.pathname.replace(/\/$/, "")}/stop`;
  return place.href;
}

/**
 * Streams an AI answer as text, whatever format the server writes: newswire's own, OpenAI's chat completions and
 * responses, Anthropic's messages, the AI SDK's and AG-UI's. Options and result as those of `streamRun`.
 *
 *     const answer = streamChat("/v1/chat/completions", { body: { model, messages, stream: true } });
 *     answer.onText((text) => (place.textContent = text));
 */
export function streamChat<E extends object = AnyEvents>(url: string | URL, options: RunOptions<E> = {}): Run<E> {
  const starts = options.body != null || /^post$/i.test(options.method ?? "");
  return read(String(url), options, starts ? newKey() : null, chat);
}

const LAST = /^(message_stop|response\.(completed|incomplete)|RUN_FINISHED)$/;

/** The format of the event itself decides, so that an answer may be read on in another one. */
function chat(event: StreamEvent<string, any>): Meaning {
  if (event.text === "[DONE]") return { end: { reason: "done" } };
  const part = event.text[0] === "{" ? parse(event.text) : null;
  const text = part && textOf(part);
  if (text == null && !(part && (typeof part.type === "string" || part.error))) return newswire(event);
  if (LAST.test(part.type)) return { end: { reason: "done" } };
  const error = part.error ?? part.response?.error ?? (/^(error|RUN_ERROR)$/.test(part.type) ? part : null);
  // A goodbye says that the server stops, and the answer goes on.
  if (!error || error.code === "goodbye" || error.type === "goodbye") return { text, repeats: true };
  return { end: { reason: "failed", error: { message: String(error.message ?? error.errorText ?? error) } } };
}

function parse(text: string): any {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// The text that a part of an answer adds; undefined if this is no such part.
function textOf(part: any): string | undefined {
  if (part.choices) {
    const { delta } = part.choices.find((one: any) => !one.index) ?? {}; // OpenAI's chat completions: the first of several
    return delta?.content ?? delta?.refusal ?? "";
  }
  switch (part.type) {
    case "response.output_text.delta": // OpenAI's responses
    case "response.refusal.delta":
    case "text-delta": // the AI SDK
    case "TEXT_MESSAGE_CONTENT": // AG-UI
    case "TEXT_MESSAGE_CHUNK":
      return part.delta;
    case "content_block_delta": // Anthropic's messages
      return part.delta?.text ?? "";
  }
  return undefined;
}
