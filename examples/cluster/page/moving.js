// The demo's feed on a native EventSource that moves between servers which share a log.
//
// The browser reconnects by itself, with Last-Event-ID, when a connection breaks or is refused. It gives up for good
// when it gets a wrong answer, such as a proxy's 502 during a deployment, and it notices nothing when a socket dies in
// its sleep. Then the feed opens another EventSource, with its cursor in the URL. It does so to move to another server, too.
import { Feed } from "./demo/feed.js";

const SILENCE = 30_000; // this machine's load comes each second: longer silence is no silence, but a dead socket

export class MovingFeed extends Feed {
  // `servers` are their origins, the page's own first.
  constructor(channels, { servers, ...handlers }) {
    super(channels, handlers);
    this.servers = servers;
    this.base = servers[0];
    this.heard = 0;
    this.before = false; // whether there was a connection
    this.delay = 500;
  }

  async start() {
    await super.start();
    setInterval(() => this.watch(SILENCE), 1000);
    for (const wake of ["online", "pageshow"]) addEventListener(wake, () => this.watch(3000));
    document.addEventListener("visibilitychange", () => document.hidden || this.watch(3000));
  }

  refused() {
    this.turn();
  }

  connect() {
    this.source?.close();
    const query = new URLSearchParams(this.channels.map((channel) => ["channel", channel]));
    query.set("envelope", "json");
    query.set("last_event_id", this.cursor);
    const source = (this.source = new EventSource(`${this.base}/stream?${query}`));
    this.heard = performance.now();
    source.onopen = () => {
      this.delay = 500;
      this.heard = performance.now();
      this.opened(this.before);
      this.before = true;
    };
    source.onmessage = (message) => this.unwrap(message);
    source.onerror = () => {
      if (source !== this.source) return;
      this.broken();
      source.close();
      this.turn(); // another server goes on where this one stopped
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

  unwrap({ data, lastEventId: id }) {
    this.heard = performance.now();
    const { channel, event, data: text } = JSON.parse(data);
    if (event === "newswire.gap") this.gap(id, JSON.parse(text));
    else if (!event.startsWith("newswire.")) this.take({ channel, event, text, id });
  }
}
