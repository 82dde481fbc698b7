// One stream of all channels, kept alive by newswire's client, and everything that it delivers, counted.
//
// A page that shows a state first and changes afterwards must not miss what happens in between. So the feed asks the
// log where it ends now, reads what the channels kept up to there, and opens the stream from exactly there.
//
// The cluster's page has a feed of its own kind (moving.js): it connects in another way and counts as this one does.
import { connect } from "/newswire.js";

const OUTAGES = 200; // more than a chart shows
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
  constructor(channels, { onEvent, onState }) {
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
    this.state = "";
    this.base = ""; // the server that is asked: the page's own
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
        this.refused();
        this.setState("dead");
        await pause(500);
      }
    }
    this.connect();
  }

  // The server that was asked has not answered.
  refused() {}

  // Ticks are left out: there are many, and they say nothing but that they came.
  async recall(latest) {
    const past = [];
    for (const channel of this.channels)
      if (channel !== "ticks") for await (const event of history(this.base, channel, "", latest)) past.push(event);
    past.sort((one, other) => offsetOf(one.id) - offsetOf(other.id));
    for (const event of past) this.onEvent(this.read(event.id, event, true));
  }

  connect() {
    const query = new URLSearchParams(this.channels.map((channel) => ["channel", channel]));
    this.source = connect(`/stream?${query}`, {
      lastEventId: this.cursor,
      json: false,
      backoff: { retry: 500, first: 500, cap: 5000 },
      onOpen: ({ reconnected }) => this.opened(reconnected),
      onState: (state) => state === "open" || this.broken(),
      onGap: ({ id, ...gap }) => this.gap(id, gap),
    });
    this.source.on("*", (event) => this.take(event));
  }

  opened(again) {
    if (again) this.counts.reconnects++;
    const outage = this.outages.at(-1);
    if (outage && outage.to === null) outage.to = Date.now();
    this.setState("live");
  }

  broken() {
    if (this.outages.at(-1)?.to !== null) this.outages.push({ from: Date.now(), to: null });
    if (this.outages.length > OUTAGES) this.outages.shift();
    this.setState("dead");
  }

  gap(id, data) {
    this.counts.gaps++;
    this.numbers.clear(); // the gap event has reported what is missing
    if (logOf(id) !== logOf(this.cursor)) this.begin(id);
    this.cursor = id;
    this.onEvent({ channel: null, event: "gap", data, id });
  }

  take({ channel, event, text, id }) {
    this.counts.received++;
    if (logOf(id) !== logOf(this.cursor)) this.begin(id);
    else if (offsetOf(id) <= offsetOf(this.cursor)) {
      this.counts[this.seen.get(channel)?.has(offsetOf(id)) ? "doubled" : "disordered"]++;
      return;
    }
    this.cursor = id;
    this.seen.get(channel)?.add(offsetOf(id));
    this.onEvent(this.read(id, { channel, event, data: text }, false));
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
