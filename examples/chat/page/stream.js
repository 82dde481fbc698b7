// One stream, kept alive by newswire's client: it reconnects by itself, and goes on after the last event. When the server
// refuses it for good, `onLost` is asked: it says whether there is anything left to read.
//
// HTTP/1.1 gives a browser six connections to a server, for all tabs together. So a tab that nobody looks at holds
// none: it closes its streams, and goes on from its cursors when it is looked at again. Nothing is missed by that.

import { connect } from "/newswire.js";

export const counts = { reconnects: 0, events: 0 };

export class Stream {
  // onEvent(type, data, id) gets what comes of `types`; onState("connecting" | "live" | "dead"); await onLost() → go on?
  constructor(url, { types, cursor = "", onEvent, onState, onLost }) {
    Object.assign(this, { url, types, cursor, onEvent, onState, onLost, over: false, opened: false });
    this.look = () => (document.hidden ? this.rest() : this.source || this.open());
    document.addEventListener("visibilitychange", this.look);
    this.look();
  }

  open() {
    this.onState("connecting");
    const mine = () => source === this.source;
    const source = (this.source = connect(this.url, {
      lastEventId: this.cursor,
      json: false,
      backoff: { retry: 500, first: 500, cap: 5000 },
      onOpen: () => {
        if (this.opened) counts.reconnects++;
        this.opened = true;
        this.onState("live");
      },
      onState: (state) => mine() && state !== "open" && this.onState("dead"),
      onGap() {}, // handled below, as an event
    }));
    for (const type of this.types) {
      source.on(type, ({ text, id }) => {
        if (!mine()) return;
        this.cursor = id;
        counts.events++;
        this.onEvent(type, text, id);
      });
    }
    source.closed.catch(() => {}).then(() => mine() && this.again());
  }

  async again() {
    const source = this.source;
    await new Promise((done) => setTimeout(done, 500 * (0.75 + Math.random() / 2)));
    const more = await this.onLost();
    if (source !== this.source || this.over) return;
    if (more) this.open();
    else this.close();
  }

  rest() {
    const { source } = this;
    this.source = null; // so that its end means nothing
    source?.close();
  }

  close() {
    this.over = true;
    this.rest();
    document.removeEventListener("visibilitychange", this.look);
  }
}
