// The tab that leads a group: it reads the stream for all tabs, and passes every event on; see `shared.ts`.

import type { Raw } from "./decoder.ts";
import { compare, plain, type Head, type Message, type Term } from "./messages.ts";
import { fetchSource, now, type Transport } from "./source.ts";
import type { ConnectOptions } from "./types.ts";

const SETTLED = 1000; // ms after its opening, in which a stream that has a past has shown it
const JOINING = 150; // ms that a new leader waits for tabs that may be frozen

/** What the tabs of a group have in common: the name of their lock and channel, and the stream. */
export type Group = { name: string; address: URL; options: ConnectOptions };

/** A tab: what it subscribes to, and where it is. */
export type Tab = { tab: string; channels: string[]; cursor: string };

/** What the leader's tab knows of the stream: whether it has a past, and whether it has brought a `newswire.live`. */
export type Known = { past: boolean; lives: boolean };

type On = { tell(message: Message): void; stopped(): void };

export type Leader = ReturnType<typeof lead>;

/** Lead, in the term of this number. `tell` gives a message to all tabs, this one too. */
export function lead({ name, address, options }: Group, { tab, channels: own, cursor }: Tab, number: number, known: Known, on: On) {
  const tabs = new Map([[tab, { channels: own, cursor }]]);
  const mine: Term = [number, tab];
  const stopping = new AbortController(); // of what waits for other tabs to go
  let channels: string[] = [];
  let at = cursor; // of the stream
  let head: Head | null = null;
  let headAt = 0;
  let source: Transport | undefined;
  let stopped = false;
  let reading = 0;
  let batch: Raw[] = [];
  let batched = false;
  let missing: string[] = []; // tabs that have not said where they are
  let until = now() + JOINING;

  function tell(message: Message): void {
    if (stopped) return;
    on.tell(message);
  }

  function show(): void {
    const past = known.past || (head && now() - headAt > SETTLED) ? known.past : null;
    const hidden = !!globalThis.document?.hidden; // a worker is never hidden
    tell({ is: "lead", term: mine, ready: !!source, reading, past, lives: known.lives, channels, cursor: at, head, hidden });
  }

  function pinged(): void {
    if (!go()) show();
  }

  // Reads from the oldest cursor of all tabs; each leaves out what it has.
  function read(): void {
    source?.close();
    flush();
    head = null;
    reading++;
    channels = [...new Set([...tabs.values()].flatMap((one) => one.channels))].sort();
    for (const one of tabs.values()) {
      if (one.cursor && (!at || compare(one.cursor, at) < 0)) at = one.cursor;
      one.cursor = "";
    }
    const whole = new URL(address);
    for (const one of channels) whole.searchParams.append("channel", one);
    let current = true;
    const transport: Transport = fetchSource(whole.href, { ...options, lastEventId: at }, {
      opened({ url, status, headers }) {
        if (!current) return;
        head = { url, status, headers: [...headers] };
        headAt = now();
        show();
      },
      event(event) {
        if (!current) return;
        if (event.event === "newswire.live") known.past = known.lives = true;
        batch.push(event);
        later();
      },
      moved(id) {
        if (!current) return;
        at = id;
        later();
      },
      lost(error, wait) {
        if (!current) return;
        flush();
        head = null;
        tell({ is: "lost", term: mine, failure: error && plain(error), wait });
      },
      closed(error) {
        if (!current) return;
        flush();
        tell({ is: "closed", term: mine, failure: error && plain(error) });
      },
    });
    source = {
      close() {
        current = false;
        transport.close();
      },
    };
    show();
  }

  // What one read of the stream brings goes out as one message.
  function later(): void {
    if (batched) return;
    batched = true;
    queueMicrotask(flush);
  }

  function flush(): void {
    batched = false;
    const events = batch;
    batch = [];
    if (events.length || at) tell({ is: "events", term: mine, events, cursor: at });
  }

  function joined(who: string, theirs: string[], from: string): void {
    if (stopped) return;
    if (!tabs.has(who) && who !== tab) {
      // Granted when that tab is gone, however it went.
      const gone = () => left(who);
      navigator.locks.request(`${name} ${who}`, { signal: stopping.signal }, gone).catch(() => {});
    }
    tabs.set(who, { channels: theirs, cursor: from });
    if (!source) return void go();
    const behind = from && (!at || compare(from, at) < 0);
    if (behind || !theirs.every((one) => channels.includes(one))) read();
    else show();
  }

  function left(who: string): void {
    tabs.delete(who); // its channels stay in the stream until it is opened anew
  }

  function stop(): void {
    if (stopped) return;
    stopped = true;
    source?.close();
    stopping.abort();
    on.stopped();
  }

  // The tabs that there are say where they are, all but a frozen one. Pings tell the time too: in a hidden tab a timer
  // may be a minute late.
  function go(): boolean {
    if (stopped || source || (now() < until && missing.some((one) => !tabs.has(one)))) return false;
    read();
    return true;
  }

  async function begin(): Promise<void> {
    show();
    const { held = [] } = await navigator.locks.query();
    const names = held.map((lock) => lock.name ?? "").filter((one) => one.startsWith(`${name} `));
    missing = names.map((one) => one.slice(name.length + 1));
    until = now() + JOINING;
    if (!go()) setTimeout(go, JOINING);
  }

  queueMicrotask(begin);
  return { joined, left, pinged, stop };
}
