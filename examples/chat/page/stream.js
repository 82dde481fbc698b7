// One native EventSource, watched over. The browser reconnects by itself, with Last-Event-ID, when a connection breaks or
// is refused; it gives up for good at a wrong answer, such as a proxy's 502 during a deployment. Then `onLost` is asked:
// it says whether there is anything left to read, and a new EventSource goes on from the cursor.
//
// HTTP/1.1 gives a browser six connections to a server, for all tabs together. So a tab that nobody looks at holds
// none: it closes its streams, and goes on from its cursors when it is looked at again. Nothing is missed by that.

export const counts = { reconnects: 0, events: 0 };

export class Stream {
  // onEvent(type, data, id) gets what comes of `types`; onState("connecting" | "live" | "dead"); await onLost() → go on?
  constructor(url, { types, cursor = "", onEvent, onState, onLost }) {
    Object.assign(this, { url, types, cursor, onEvent, onState, onLost, over: false, delay: 500, opened: false });
    this.look = () => (document.hidden ? this.rest() : this.source || this.open());
    document.addEventListener("visibilitychange", this.look);
    this.look();
  }

  open() {
    this.onState("connecting");
    const query = this.cursor ? `?last_event_id=${encodeURIComponent(this.cursor)}` : "";
    const source = (this.source = new EventSource(this.url + query));
    source.onopen = () => {
      if (this.opened) counts.reconnects++;
      this.opened = true;
      this.delay = 500;
      this.onState("live");
    };
    for (const type of this.types) {
      source.addEventListener(type, ({ data, lastEventId }) => {
        if (source !== this.source) return;
        this.cursor = lastEventId;
        counts.events++;
        this.onEvent(type, data, lastEventId);
      });
    }
    source.onerror = () => {
      if (source !== this.source) return;
      this.onState("dead");
      if (source.readyState === EventSource.CLOSED) this.again();
    };
  }

  async again() {
    const source = this.source;
    await new Promise((done) => setTimeout(done, this.delay * (0.75 + Math.random() / 2)));
    this.delay = Math.min(this.delay * 2, 5000);
    const more = await this.onLost();
    if (source !== this.source || this.over) return;
    if (more) this.open();
    else this.close();
  }

  rest() {
    this.source?.close();
    this.source = null;
  }

  close() {
    this.over = true;
    this.rest();
    document.removeEventListener("visibilitychange", this.look);
  }
}
