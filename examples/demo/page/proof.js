// What the page says of the feed's counts, and of what the log holds beside them; the cluster's page says it too.
import { $, clock } from "./cards.js";

const ZERO = new Set(["lost", "doubled", "disordered"]); // of these there should be none

export class Proof {
  constructor(feed) {
    this.feed = feed;
    this.bad = "";
    setInterval(() => this.audit(), 10_000);
  }

  // As soon as what was missed during an outage has come.
  soon() {
    setTimeout(() => this.audit(), this.feed.counts.reconnects ? 2500 : 1000);
  }

  async audit() {
    if (this.feed.state !== "live") return;
    try {
      const result = await this.feed.audit();
      if (!result) return;
      if (result.missing || result.extra) this.bad = `${result.missing} missing, ${result.extra} too many`;
      const all = `all ${this.feed.audited.toLocaleString()} events came here, each once`;
      $("audit").dataset.result = this.bad ? "bad" : "good";
      $("audit").textContent = this.bad || `Compared with the log at ${clock(Date.now())}: ${all}`;
    } catch {
      // the server went away meanwhile; the next comparison covers what this one would have
    }
  }

  show() {
    for (const [name, count] of Object.entries(this.feed.counts)) {
      const place = $(name);
      if (!place) continue;
      place.textContent = count.toLocaleString();
      if (ZERO.has(name)) place.parentElement.className = count ? "bad" : "good";
    }
    $("cursor").textContent = this.feed.cursor || "–";
  }
}

// One more event in this second: `values` are those of a chart's line.
export function arrived(values) {
  const second = Math.floor(Date.now() / 1000) * 1000;
  if (values.at(-1)?.[0] === second) values.at(-1)[1]++;
  else values.push([second, 1]);
}
