// The table of open streams: who reads what, since when, and who is behind. In the place of the channels while it is
// shown, and only then the server is asked for it. With a channel chosen, these are the streams that get this channel.

import { short } from "../newswire-chart.js";
import { el, nameOf } from "./tail.js";

const ASKED = 200; // streams of one answer
const SHOWN = 100; // and in the table
const STATES = { live: "live", catching_up: "catching up", stalled: "stalled", ending: "ending" };

export class StreamTable {
  #body; #filter; #empty; #note; #streams = []; #more = false; #now = 0; #channel = null;

  constructor({ body, filter, empty, note }) {
    this.#body = body;
    this.#filter = filter;
    this.#empty = empty;
    this.#note = note;
    filter.addEventListener("input", () => this.#draw());
  }

  // `channel`: the one that is chosen, or null; `now`: the server's clock in seconds.
  async ask(channel, now) {
    const query = new URLSearchParams({ limit: ASKED, ...(channel === null ? {} : { channel }) });
    const answer = await fetch(`connections?${query}`, { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) return;
    const { connections, next } = await answer.json();
    this.#streams = connections.sort((one, other) => this.#rank(one) - this.#rank(other) || one.since - other.since);
    this.#more = next !== null;
    this.#now = now;
    this.#channel = channel;
    this.#draw();
  }

  // What needs a look comes first.
  #rank({ state }) { return state === "stalled" ? 0 : state === "live" ? 2 : 1; }

  #draw() {
    const text = this.#filter.value.trim().toLowerCase();
    const fits = ({ channels, subject, address }) => [...channels, subject ?? "", address ?? ""].some(each => each.toLowerCase().includes(text));
    const fitting = this.#streams.filter(fits), shown = fitting.slice(0, SHOWN);
    this.#body.replaceChildren(...shown.map(stream => this.#row(stream)));
    const which = this.#channel === null ? "" : ` that gets ${this.#channel}`;
    this.#empty.textContent = this.#streams.length ? `No stream has “${this.#filter.value.trim()}” in its channels, user or address.` : `No stream${which} is open.`;
    this.#empty.hidden = shown.length > 0;
    const hidden = fitting.length - shown.length;
    const some = this.#more ? `More are open: these are the first ${ASKED}.` : hidden ? `${short(hidden)} more.` : "";
    this.#note.textContent = `${this.#channel === null ? "" : `Streams that get ${this.#channel}. `}${some}`.trim();
  }

  #row({ channels, more_channels: more, subject, address, since, state, behind }) {
    const tr = el("tr"), reads = el("td", "reads mono");
    channels.forEach((name, i) => reads.append(...(i ? [" ", nameOf(name)] : [nameOf(name)])));
    if (more) reads.append(` and ${short(more)} more`);
    const from = el("td", "from", subject ?? address ?? "–");
    from.title = [subject, address].filter(Boolean).join(", from ");
    const how = el("td", `how ${state}`, STATES[state]);
    if (behind && state !== "live") how.title = `${short(behind)} events behind`;
    tr.append(reads, from, how, el("td", "age", age(this.#now - since)));
    return tr;
  }
}

function age(seconds) {
  const [unit, size] = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]].find(([, size]) => seconds >= size) ?? ["s", 1];
  return Math.floor(Math.max(0, seconds) / size) + unit;
}
