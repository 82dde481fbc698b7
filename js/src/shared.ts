// One connection for all tabs of an origin that read the same stream: `connect(url, { shared: true })`.
//
// The tab that holds a Web Lock leads (`leader.ts`): it reads the stream and passes every event on over a
// BroadcastChannel. Streams that differ in their `channel=` parameters alone are one stream, of all channels that a tab
// asks for.
//
// Each tab has a cursor of its own, and takes only what comes after it. So whoever leads next may begin at the oldest
// cursor of all tabs: nobody loses an event, and nobody gets one twice. Each leader has a term, and a tab hears only the
// newest one: a leader that was frozen and wakes up finds that it leads no more, and nobody heard what it said meanwhile.
//
// A leader that closes or dies frees its lock, and the next in the queue has it at once. One that is frozen, or whose
// machine took it for asleep, keeps the lock but answers nothing: then a tab steals the lock. Tabs ask only when they
// have heard nothing for a while, and leaders answer in the handler of a message, which is not slowed down in hidden
// tabs as timers are.
//
// A tab that was open before a deployment has the package as it was. The name of lock and channel has a version, so
// tabs that would not understand each other make two groups, each with a connection.

import type { Raw } from "./decoder.ts";
import { lead, type Known, type Leader } from "./leader.ts";
import { compare, failed, VERSION, type Message, type Stream, type Term } from "./messages.ts";
import { checked, fetchSource, now, type Sink, type Transport } from "./source.ts";
import type { ConnectOptions, Opened } from "./types.ts";

const TICK = 200; // ms between two looks
const QUIET = 400; // ms without a word from the leader, after which a tab asks
const ANSWER = 700; // ms that a leader has for its answer; up to 200 more, so that not all tabs steal at once

/** Whether a channel is one of these names and patterns (`*`: one part; `>`: all that follow). */
export function matches(channel: string, names: readonly string[]): boolean {
  const parts = channel.split(".");
  return names.some((name) => {
    if (name === channel) return true;
    const wanted = name.split(".");
    const rest = wanted.indexOf(">");
    if (rest < 0 ? wanted.length !== parts.length : parts.length <= rest) return false;
    return wanted.every((part, at) => part === ">" || part === "*" || part === parts[at] || (rest >= 0 && at > rest));
  });
}

export function source(url: string, options: ConnectOptions, sink: Sink): Transport {
  const address = new URL(checked(url, options).url);
  const covered = () => wanted.every((one) => stream.channels.includes(one));
  const reads = address.href; // all that this tab reads, by itself
  const wanted = [...new Set(address.searchParams.getAll("channel"))];
  let cursor = options.lastEventId ?? address.searchParams.get("last_event_id") ?? "";
  address.searchParams.delete("channel");
  address.searchParams.delete("last_event_id");
  const name = `newswire:${VERSION}:${address.href}`;
  const tab = crypto.randomUUID();

  let term: Term = [0, ""]; // of the leader that this tab hears
  let here = false; // this tab holds the lock that is free when it is gone
  let admitted = false; // what the leader sends has all that this tab is to get
  let level = false; // … and nothing that it has: the leader has come to where this tab is
  let open = false;
  let opens = 0;
  let closed = false;
  let heard = now(); // from the leader
  let asked = 0;
  let hasty = 0; // a visible tab waits no longer for a hidden leader that is not connected
  let channel: BroadcastChannel | undefined;
  let leaving = new AbortController(); // of this tab, from the group
  let release: (() => void) | undefined; // of the lead
  let ticking: ReturnType<typeof setInterval> | undefined;
  const known: Known = { past: address.searchParams.get("from") === "earliest", lives: false };
  let stream: Stream = { ready: false, reading: 0, ...known, channels: [], cursor: "" };
  let since = ""; // where the leader was then
  let held: Raw[] | undefined; // what came while `past` was not known
  let solo: Transport | undefined; // reads for this tab alone

  // -- what every tab does

  function say(message: Message): void {
    channel?.postMessage(message);
  }

  function join(): void {
    if (here) say({ is: "join", tab, channels: wanted, cursor });
  }

  function hear(message: Message): void {
    if (closed) return;
    if (message.is === "join") return leader?.joined(message.tab, message.channels, message.cursor);
    if (message.is === "leave") return leader?.left(message.tab);
    if (message.is === "ping") return leader?.pinged();
    const [number, who] = message.term;
    if (number < term[0] || (number === term[0] && who < term[1])) return; // a leader of the past
    if (number !== term[0] || who !== term[1]) {
      term = message.term;
      if (admitted) lost(null, 0);
      admitted = false;
      if (who !== tab) {
        leader?.stop();
        join();
      }
    }
    heard = now();
    if (message.is === "closed") return finish(message.failure && failed(message.failure));
    if (message.is === "lead") {
      const { head, hidden } = message;
      if (message.reading !== stream.reading) level = cursor === message.cursor;
      stream = message;
      known.past ||= !!stream.past;
      if (!covered()) admitted = false; // the leader took this tab for gone
      admit();
      if (admitted && head) opened({ ...head, headers: new Headers(head.headers) });
      hasty = !head && hidden ? hasty || now() : 0;
    } else if (message.is === "events") {
      stream = { ...stream, cursor: message.cursor || stream.cursor };
      if (admitted) return take(message.events, message.cursor);
      held?.push(...message.events);
      admit();
    } else if (admitted) lost(message.failure && failed(message.failure), message.wait);
  }

  // From here on this tab takes what the leader sends, if all that it lacks is still to come.
  function admit(): void {
    if (admitted || !stream.ready || closed) return;
    const whole = covered();
    if (whole && !cursor && !solo && stream.cursor && !known.past) {
      // From now on, if this stream has no past.
      if (!held) [held, since] = [[], stream.cursor];
      if (stream.past === null) return;
      [admitted, level, cursor] = [true, true, since];
      const events = held;
      held = undefined;
      sink.moved(cursor);
      return take(events, stream.cursor);
    }
    held = undefined;
    if (solo && stream.lives && !known.lives) return; // its state is not whole yet
    const order = compare(cursor, stream.cursor);
    if (whole && order >= 0) {
      [admitted, level] = [true, order === 0];
      const own = solo;
      solo = undefined; // so that its end means nothing
      own?.close();
      if (cursor) sink.moved(cursor);
    } else if (cursor && stream.cursor && Number.isNaN(order)) {
      // Cursors that have no order can't be brought together: this tab reads for itself, and stays alone.
      alone();
    } else if (!solo) {
      if (!cursor) catchUp();
      if (cursor || !whole) join(); // the leader reads again, from there
    }
  }

  function alone(): void {
    if (!solo) catchUp();
    leave();
  }

  // A tab without a cursor is to get what the server sends to such a reader, as the state of channels that have one. It
  // reads that for itself until it is where the leader is.
  function catchUp(): void {
    const current: { mine?: Transport } = {};
    const mine = () => solo === current.mine && !closed;
    solo = current.mine = fetchSource(reads, { ...options, lastEventId: cursor }, {
      opened: (head) => mine() && opened(head),
      event(event) {
        if (!mine()) return;
        cursor = event.id;
        known.lives ||= event.event === "newswire.live";
        sink.event(event);
        queueMicrotask(admit);
      },
      moved(id) {
        if (!mine()) return;
        sink.moved((cursor = id));
        queueMicrotask(admit); // an event with this id may follow
      },
      lost: (error, wait) => mine() && lost(error, wait),
      closed: (error) => mine() && finish(error),
    });
  }

  function opened(head: Omit<Opened, "reconnected">): void {
    if (open) return;
    open = true;
    sink.opened({ ...head, reconnected: opens++ > 0 });
  }

  function take(events: Raw[], through: string): void {
    for (const event of events) {
      const order = compare(event.id, cursor);
      if (event.event === "newswire.gap") {
        // Its id is the place before what is missing. It is for those who have not got past the end of that.
        if (compare(endOf(event), cursor) <= 0) continue;
        if (!(order < 0)) cursor = event.id;
        sink.event({ ...event, id: cursor });
        if (closed) return;
        continue;
      }
      // Ids are compared only until the leader is where this tab is: those of other servers may repeat, or go back.
      if (!level && order < 0) continue; // this tab has it
      const has = !level && order === 0 && event.own;
      level ||= order >= 0;
      if (has) continue;
      cursor = event.id;
      if (!event.channel || !wanted.length || matches(event.channel, wanted)) sink.event(event);
      else sink.moved(cursor);
      if (closed) return;
    }
    level ||= compare(through, cursor) >= 0;
    if (through && (level ? through !== cursor : !(compare(through, cursor) <= 0))) sink.moved((cursor = through));
  }

  function lost(error: Error | null, wait: number): void {
    if (open || error) sink.lost(error, wait);
    open = false;
  }

  function look(): void {
    if (leader || closed) return;
    const time = now();
    const silent = asked > heard && time - asked > ANSWER + Math.random() * 200;
    if (silent || (hasty && !globalThis.document?.hidden && time - hasty > ANSWER)) {
      heard = time; // once
      hasty = 0;
      request(true);
    } else if ((asked <= heard && time - heard > QUIET) || (held && stream.past === null)) {
      asked = time;
      say({ is: "ping" });
    }
  }

  // -- the lead: one at a time, from a lock

  let leader: Leader | undefined;
  let queued = false;

  function request(steal = false): void {
    if (!steal && queued) return;
    if (!steal) queued = true;
    const { signal } = leaving;
    const held = () =>
      new Promise<void>((done) => {
        if (!steal) queued = false;
        if (signal.aborted) return done();
        leader?.stop();
        release = done;
        leader = lead({ name, address, options }, { tab, channels: wanted, cursor }, term[0] + 1, known, {
          tell(message) {
            say(message);
            hear(message);
          },
          stopped() {
            leader = undefined;
            release?.();
            release = undefined;
          },
        });
      });
    navigator.locks.request(name, steal ? { steal } : { signal }, held).catch((error) => {
      if (signal.aborted) return;
      if (error.name !== "AbortError") return alone(); // no locks here, as in a frame with a sandbox
      // Stolen: this tab was frozen, or thought to be. It goes to the end of the queue.
      leader?.stop();
      request();
    });
  }

  // -- coming and going

  function enter(): void {
    if (closed || channel || solo) return;
    leaving = new AbortController();
    const { signal } = leaving;
    try {
      channel = new BroadcastChannel(name);
    } catch {
      return alone(); // refused, as some browsers do without storage
    }
    channel.onmessage = ({ data }) => hear(data);
    const stay = () => {
      if (signal.aborted) return;
      here = true;
      join(); // only now: a leader that gets this lock before this tab has it takes the tab for gone
      return new Promise<void>((done) => signal.addEventListener("abort", () => done()));
    };
    navigator.locks.request(`${name} ${tab}`, { signal }, stay).catch(() => {});
    request();
    heard = now();
    ticking = setInterval(look, TICK);
  }

  function leave(): void {
    if (!channel) return;
    clearInterval(ticking);
    say({ is: "leave", tab });
    leader?.stop();
    leaving.abort();
    here = false;
    queued = false;
    channel.close();
    channel = undefined;
    admitted = false;
    term = [term[0], ""];
    stream = { ...stream, ready: false };
    held = undefined;
    if (!solo) open = false;
  }

  function finish(error: Error | null): void {
    if (closed) return;
    closed = true;
    leave();
    solo?.close();
    removeEventListener("pagehide", leave);
    removeEventListener("pageshow", enter);
    sink.closed(error);
  }

  // A page that may come back from the browser's cache leaves the group meanwhile, and comes back with its cursor.
  addEventListener("pagehide", leave);
  addEventListener("pageshow", enter);
  enter();
  return { close: () => finish(null) };
}

/** The newest position that a gap says is missing; empty if it says none. */
function endOf(gap: Raw): string {
  try {
    return String(JSON.parse(gap.data).through ?? "");
  } catch {
    return ""; // of another server
  }
}
