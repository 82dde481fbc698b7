// A class with the shape of the DOM's EventSource (WHATWG HTML 9.2.2), for libraries that want one.
//
// It differs where the standard gives up: after 5xx, 408, 425, 429 and a long silence it tries again. And it may send
// what `connect` may send: `new EventSource(url, { withCredentials: true, headers, body, … })`.

import { fetchSource, type Transport } from "./source.ts";
import type { ConnectOptions } from "./types.ts";

type Shared = "headers" | "method" | "body" | "fetch" | "lastEventId" | "cursorParam" | "idempotent" | "backoff" | "attempts";

export interface EventSourceOptions extends EventSourceInit, Pick<ConnectOptions, Shared | "inactivity" | "timeout"> {}

// Handlers are the DOM's own in type too: a library that asks for its EventSource takes this one.
type Native = globalThis.EventSource;
type Handler<E extends Event> = ((this: Native, event: E) => any) | null;

class EventSource extends EventTarget implements Native {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSED = 2;
  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSED = 2;
  readonly url: string;
  readonly withCredentials: boolean;

  #state: 0 | 1 | 2 = 0;
  #source: Transport;
  #handlers = new Map<string, [given: Handler<any>, called: (event: Event) => void]>();

  constructor(url: string | URL, init: EventSourceOptions = {}) {
    super();
    let address: URL;
    try {
      address = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
    } catch {
      throw new DOMException(`Cannot open an EventSource to '${url}'. The URL is invalid.`, "SyntaxError");
    }
    this.url = address.href;
    this.withCredentials = !!init.withCredentials;
    let origin = address.origin;
    const options = { ...init, credentials: this.withCredentials ? "include" : "same-origin" } as const;
    this.#source = fetchSource(this.url, options, {
      opened: (opened) => {
        origin = new URL(opened.url || this.url).origin; // after redirects
        this.#state = 1;
        this.dispatchEvent(new Event("open"));
      },
      event: ({ event, data, id }) => {
        if (this.#state === 1) this.dispatchEvent(new MessageEvent(event, { data, lastEventId: id, origin }));
      },
      moved() {},
      lost: () => {
        this.#state = 0;
        this.dispatchEvent(new Event("error"));
      },
      closed: () => {
        if (this.#state === 2) return; // by `close`, which fires nothing
        this.#state = 2;
        this.dispatchEvent(new Event("error"));
      },
    });
  }

  get readyState(): 0 | 1 | 2 {
    return this.#state;
  }

  close(): void {
    this.#state = 2;
    this.#source.close();
  }

  get onopen(): Handler<Event> {
    return this.#get("open");
  }
  set onopen(handler: Handler<Event>) {
    this.#set("open", handler);
  }
  get onmessage(): Handler<MessageEvent> {
    return this.#get("message");
  }
  set onmessage(handler: Handler<MessageEvent>) {
    this.#set("message", handler);
  }
  get onerror(): Handler<Event> {
    return this.#get("error");
  }
  set onerror(handler: Handler<Event>) {
    this.#set("error", handler);
  }

  #get(name: string): Handler<any> {
    return this.#handlers.get(name)?.[0] ?? null;
  }

  // An event handler attribute keeps its place among the listeners when it is set again (HTML 8.1.8.1).
  #set(name: string, handler: unknown): void {
    const given = typeof handler === "function" ? (handler as Handler<any>) : null;
    const known = this.#handlers.get(name);
    if (known) known[0] = given;
    else if (given) {
      const entry: [Handler<any>, (event: Event) => void] = [given, (event) => entry[0]?.call(this, event)];
      this.#handlers.set(name, entry);
      this.addEventListener(name, entry[1]);
    }
  }

  get [Symbol.toStringTag](): string {
    return "EventSource";
  }
}

interface EventSource {
  addEventListener<K extends keyof EventSourceEventMap>(
    type: K,
    listener: (this: Native, event: EventSourceEventMap[K]) => any,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: ((this: Native, event: MessageEvent) => any) | EventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof EventSourceEventMap>(
    type: K,
    listener: (this: Native, event: EventSourceEventMap[K]) => any,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: ((this: Native, event: MessageEvent) => any) | EventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

export { EventSource };
