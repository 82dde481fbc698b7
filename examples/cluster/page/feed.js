// One native EventSource, kept alive, and everything that it delivers, counted.
//
// A page that shows a state first and changes afterwards must not miss what happens in between. So the feed asks the
// log where it ends now, reads what the channels kept up to there, and opens the stream from exactly there.
//
// The browser reconnects by itself, with Last-Event-ID, when a connection breaks or is refused. It gives up for good
// when it gets a wrong answer, such as a proxy's 502 during a deployment, and it notices nothing when a socket dies in
// its sleep. Then the feed opens another EventSource, with its cursor in the URL.

const SILENCE = 30_000; // this machine's load comes each second: longer silence is no silence, but a dead socket
const offsetOf = (id) => Number(id.slice(id.lastIndexOf("-") + 1));
const logOf = (id) => id.slice(0, id.lastIndexOf("-"));

async function getJSON(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer.json();
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export class Feed {
  // onEvent(event) gets {channel, event, data, id, past}; onState("connecting" | "live" | "dead") what it says.
  // `servers` are the origins of servers that share a log; one, the page's own, unless there are more.
  constructor(channels, { onEvent, onState, servers = [""] }) {
    this.servers = servers;
    this.base = servers[0];
    this.channels = channels;
    this.onEvent = onEvent;
    this.onState = onState;
    this.counts = { received: 0, lost: 0, doubled: 0, disordered: 0, gaps: 0, reconnects: 0, resent: 0 };
    this.cursor = "";
    this.outages = []; // {from, to}: times when there was no connection; `to` is null in the last while it lasts
    this.seen = new Map(channels.map((channel) => [channel, new Set()])); // offsets not yet compared with the log
    this.compared = ""; // up to here everything was
    this.audited = 0;
    this.numbers = new Map(); // the last number of each publisher's run
    this.heard = 0;
    this.opened = false;
    this.state = "";
    this.delay = 500;
  }

  async start() {
    this.setState("connecting");
    for (;;) {
      try {
        const { latest } = await getJSON(`${this.base}/health/ready`);
        await this.recall(latest);
        this.cursor = this.compared = latest;
        break;
      } catch {
        this.turn();
        this.setState("dead");
        await pause(500);
      }
    }
    this.connect();
    setInterval(() => this.watch(SILENCE), 1000);
    for (const wake of ["online", "pageshow"]) addEventListener(wake, () => this.watch(3000));
    document.addEventListener("visibilitychange", () => document.hidden || this.watch(3000));
  }

  // Ticks are left out: there are many, and they say nothing but that they came.
  async recall(latest) {
    const past = [];
    for (const channel of this.channels)
      if (channel !== "ticks") for await (const event of history(this.base, channel, "", latest)) past.push(event);
    past.sort((one, other) => offsetOf(one.id) - offsetOf(other.id));
    for (const event of past) this.onEvent(this.read(event.id, event, true));
  }

  connect() {
    this.source?.close();
    const query = new URLSearchParams(this.channels.map((channel) => ["channel", channel]));
    query.set("envelope", "json");
    query.set("last_event_id", this.cursor);
    const source = (this.source = new EventSource(`${this.base}/stream?${query}`));
    this.heard = performance.now();
    source.onopen = () => {
      if (this.opened) this.counts.reconnects++;
      this.opened = true;
      this.delay = 500;
      this.heard = performance.now();
      const outage = this.outages.at(-1);
      if (outage && outage.to === null) outage.to = Date.now();
      this.setState("live");
    };
    source.onmessage = (message) => this.take(message);
    source.onerror = () => {
      if (source !== this.source) return;
      if (this.outages.at(-1)?.to !== null) this.outages.push({ from: Date.now(), to: null });
      this.setState("dead");
      if (this.servers.length > 1) {
        source.close();
        this.turn(); // another server goes on where this one stopped
      }
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      setTimeout(() => source === this.source && this.connect(), this.delay * (0.75 + Math.random() / 2));
      this.delay = Math.min(this.delay * 2, 5000);
    };
  }

  turn() {
    this.base = this.servers[(this.servers.indexOf(this.base) + 1) % this.servers.length];
  }

  // Goes on at the next server, from the same position.
  move() {
    this.turn();
    this.connect();
  }

  watch(limit) {
    if (this.source?.readyState === EventSource.OPEN && performance.now() - this.heard > limit) this.connect();
  }

  take(message) {
    this.heard = performance.now();
    const envelope = JSON.parse(message.data);
    if (envelope.event === "newswire.gap") {
      this.counts.gaps++;
      this.numbers.clear(); // what is missing was told: it is not lost silently
      if (logOf(message.lastEventId) !== logOf(this.cursor)) this.begin(message.lastEventId);
      this.cursor = message.lastEventId;
      this.onEvent({ channel: null, event: "gap", data: JSON.parse(envelope.data), id: message.lastEventId });
      return;
    }
    if (envelope.event.startsWith("newswire.")) return;
    const id = message.lastEventId;
    this.counts.received++;
    if (logOf(id) !== logOf(this.cursor)) this.begin(id);
    else if (offsetOf(id) <= offsetOf(this.cursor)) {
      this.counts[this.seen.get(envelope.channel)?.has(offsetOf(id)) ? "doubled" : "disordered"]++;
      return;
    }
    this.cursor = id;
    this.seen.get(envelope.channel)?.add(offsetOf(id));
    this.onEvent(this.read(id, envelope, false));
  }

  // Another log than before: nothing of the old one can be compared.
  begin(id) {
    this.compared = `${logOf(id)}-${offsetOf(id) - 1}`;
    for (const offsets of this.seen.values()) offsets.clear();
  }

  read(id, { channel, event, data: text }, past) {
    let data;
    try {
      data = JSON.parse(text);
    } catch {
      data = { text };
    }
    if (data?.run) {
      const last = this.numbers.get(data.run);
      if (last !== undefined && data.n > last + 1) this.counts.lost += data.n - last - 1;
      if (last !== undefined && data.n <= last) this.counts.resent++;
      this.numbers.set(data.run, Math.max(last ?? 0, data.n));
    }
    return { channel, event, data, id, past };
  }

  setState(state) {
    this.state = state;
    this.onState(state);
  }

  // Compares what came since the last time with what the log holds: each stored event once, and nothing else. One at a
  // time: two would take each other's events away.
  audit() {
    this.auditing ??= this.#audit().finally(() => (this.auditing = null));
    return this.auditing;
  }

  async #audit() {
    const from = this.compared;
    const until = this.cursor;
    const result = { events: 0, missing: 0, extra: 0 };
    const [first, last] = [offsetOf(from), offsetOf(until)];
    for (const [channel, offsets] of this.seen) {
      const came = new Set([...offsets].filter((offset) => offset > first && offset <= last));
      for await (const { id } of history(this.base, channel, from, until)) {
        result.events++;
        if (!came.delete(offsetOf(id))) result.missing++;
      }
      result.extra += came.size;
    }
    if (logOf(this.cursor) !== logOf(until)) return null; // another log began meanwhile
    for (const offsets of this.seen.values())
      for (const offset of offsets) if (offset <= last) offsets.delete(offset);
    this.compared = until;
    this.audited += result.events;
    return result;
  }
}

// The kept events of a channel after one position, up to another.
async function* history(base, channel, after, until) {
  for (;;) {
    const query = new URLSearchParams({ limit: 1000, ...(after && { after }) });
    const page = await getJSON(`${base}/channels/${channel}/events?${query}`);
    for (const event of page.events) if (offsetOf(event.id) <= offsetOf(until)) yield event;
    if (offsetOf(page.next) >= offsetOf(until)) return;
    after = page.next;
  }
}
