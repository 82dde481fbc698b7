// The tail: what a channel has kept of late, then one stream, and as many rows as a person can read. What comes
// faster is counted, and said. The time of a row is the event's own. Data is only ever set as text.

import { connect } from "../newswire.js";
import { paint, short } from "../newswire-chart.js";

const ROWS = 400;        // in the page
const AT_ONCE = 10;      // rows added at a time, ten times a second
const LAST = 100;        // kept events that the tail of a channel starts with
const LOOK_BACK = 60;    // and the tail of many
const CUT = 2_000;       // characters of a row's data; an opened row shows up to FULL
const FULL = 100_000;

export function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// A channel's name, which may be long: its lines break behind dots.
export function nameOf(channel) {
  const node = el("span");
  node.append(...channel.split(/(?<=\.)/).flatMap((token, i) => (i ? [el("wbr"), token] : [token])));
  return node;
}

export const isPattern = name => name.split(".").some(token => token === "*" || token === ">");

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const calendar = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });

export class Tail {
  #list; #source = null; #pending = []; #skipped = 0; #paused = false; #held = 0; #channel = null; #lastId = "";
  #onState; #onCount; #onKept; #onStuck; #stuck = true; #chosen = null; #retry = 0; #top = 0; #day = ""; #turn = 0;
  received = 0; // events of the streams so far

  constructor(list, { onState, onCount, onStuck, onKept }) {
    this.#list = list;
    this.#onStuck = onStuck;
    this.#onState = onState;
    this.#onCount = onCount;
    this.#onKept = onKept;
    list.addEventListener("scroll", () => {
      // Only a person scrolls up; rows that come, and rows that go at the top, do not count as that.
      const end = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
      if (end) this.#stuck = true;
      else if (list.scrollTop < this.#top - 2) this.#stuck = false;
      this.#top = list.scrollTop;
      onStuck(this.#stuck);
    }, { passive: true });
    list.addEventListener("click", event => this.#choose(event.target.closest(".row"), true));
    list.addEventListener("keydown", event => this.#key(event));
    setInterval(() => this.#flush(), 100);
  }

  // Show a channel or a pattern, or all (null): what is kept of late, then what comes. `numbers` say where the log is.
  async follow(channel, numbers) {
    const turn = ++this.#turn;
    this.#channel = channel;
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#retry);
    this.#pending = [];
    this.#skipped = 0;
    this.clear();
    this.#list.classList.toggle("one", channel !== null && !isPattern(channel)); // each row would say the same
    this.#onKept(null);
    try {
      const page = await this.#recent(channel, numbers);
      if (turn !== this.#turn) return;
      this.#lastId = page.next;
      const rows = document.createDocumentFragment();
      for (const event of page.events) rows.append(...this.#dated(event.time), this.#row(event));
      this.#list.append(rows);
      this.toNewest();
      this.#onKept(page.events.length, page.refused);
      if (page.refused) return this.#onState("live"); // no such channel: there is nothing to follow
      this.#connect();
    } catch {
      if (turn !== this.#turn) return;
      this.#onState("reconnecting");
      this.#retry = setTimeout(() => this.follow(channel, numbers), 1000);
    }
  }

  async #recent(channel, { epoch, offset }) {
    const many = channel === null || isPattern(channel);
    const query = many ? { after: `${epoch}-${Math.max(0, offset - LOOK_BACK)}`, limit: 1000 } : { last: LAST };
    const answer = await fetch(`channels/${encodeURIComponent(channel ?? ">")}/events?${new URLSearchParams(query)}`);
    const page = await answer.json();
    if (answer.ok) return page;
    if (answer.status >= 500) throw new Error(String(answer.status));
    return { events: [], next: "", refused: page.detail };
  }

  #connect() {
    this.#source?.close();
    const query = this.#channel === null ? "" : `?${new URLSearchParams({ channel: this.#channel })}`;
    const source = this.#source = connect(`console/tail${query}`, {
      lastEventId: this.#lastId,
      backoff: { cap: 15_000 },
      onOpen: () => this.#onState("live"),
      onState: state => source === this.#source && state !== "open" && this.#onState("reconnecting"),
    });
    source.on("message", message => {
      this.#lastId = message.id;
      this.received++;
      this.#pending.push(message);
      if (this.#pending.length > AT_ONCE * 5) { this.#skipped += AT_ONCE * 4; this.#pending.splice(0, AT_ONCE * 4); }
    });
  }

  get paused() { return this.#paused; }
  set paused(value) {
    this.#paused = value;
    this.#held = 0;
    this.#onCount(0);
  }

  clear() {
    this.#list.replaceChildren();
    this.#chosen = null;
    this.#day = "";
    this.#stuck = true;
    this.#onStuck(true);
  }

  toNewest() {
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#top = this.#list.scrollTop;
    this.#stuck = true;
  }

  #flush() {
    if (!this.#pending.length && !this.#skipped) return;
    if (this.#paused) {
      this.#held += this.#pending.length + this.#skipped;
      this.#pending = [];
      this.#skipped = 0;
      this.#onCount(this.#held);
      return;
    }
    const rows = document.createDocumentFragment();
    const extra = Math.max(0, this.#pending.length - AT_ONCE);
    this.#skipped += extra;
    if (this.#skipped) rows.append(this.#note(this.#skipped));
    for (const message of this.#pending.slice(extra)) rows.append(...this.#read(message));
    this.#pending = [];
    this.#skipped = 0;
    this.#list.append(rows);
    while (this.#list.childElementCount > ROWS) this.#list.firstElementChild.remove();
    if (this.#stuck) this.toNewest();
  }

  // Nothing is left out in silence.
  #note(count) {
    return el("div", "skipped", `${short(count)} more came in between: too fast to read, counted but not shown`);
  }

  #read({ data: event, id }) {
    if (event.channel === null) return [this.#notice(event)];
    return [...this.#dated(event.time), this.#row({ ...event, id })];
  }

  // A line where another day begins; none for today at the top.
  #dated(time) {
    const day = calendar.format(time * 1000);
    if (day === this.#day) return [];
    const first = this.#day === "";
    this.#day = day;
    return first && day === calendar.format(Date.now()) ? [] : [el("div", "day", day)];
  }

  #row(event) {
    const row = el("div", "row"), from = el("span", "from"), what = el("span", "what");
    paint(row, event.channel);
    from.append(nameOf(event.channel));
    from.title = event.channel;
    if (event.event !== "message") what.append(el("span", "kind", event.event));
    what.append(event.data.slice(0, CUT));
    const time = el("time", "", clock.format(event.time * 1000));
    time.dateTime = new Date(event.time * 1000).toISOString();
    time.title = `published ${full.format(event.time * 1000)}`;
    row.append(time, from, what);
    row.event = event;
    return row;
  }

  #notice(event) {
    if (event.event === "newswire.gap") {
      let gap = {};
      try { gap = JSON.parse(event.data); } catch { /* then without the details */ }
      const upto = gap.through ? ` up to ${gap.through}` : "";
      return el("div", "notice", `Gap (${gap.reason ?? "unknown"}): events${upto} are no longer kept.`);
    }
    if (event.event === "newswire.goodbye") return el("div", "notice", "The server says goodbye, and will be back.");
    return el("div", "notice", event.event);
  }

  #choose(row, toggle) {
    if (!row) return;
    this.#chosen?.classList.remove("chosen");
    this.#chosen = row;
    row.classList.add("chosen");
    if (toggle && !getSelection().toString()) this.#open(row, !row.classList.contains("open"));
    row.scrollIntoView({ block: "nearest" });
  }

  #open(row, open) {
    row.classList.toggle("open", open);
    const what = row.querySelector(".what"), { event, data, id } = row.event;
    what.replaceChildren();
    if (open) what.append(el("span", "id", id));
    if (event !== "message") what.append(el("span", "kind", event));
    let text = data.slice(0, open ? FULL : CUT);
    if (open) { try { text = JSON.stringify(JSON.parse(data), null, 2).slice(0, FULL); } catch { /* no JSON: as it is */ } }
    what.append(text);
  }

  #key(event) {
    const rows = [...this.#list.querySelectorAll(".row")], at = rows.indexOf(this.#chosen);
    const to = { ArrowDown: at + 1, ArrowUp: at < 0 ? rows.length - 1 : at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to !== undefined && rows.length) this.#choose(rows[Math.max(0, Math.min(rows.length - 1, to))], false);
    else if ((event.key === "Enter" || event.key === " ") && this.#chosen) this.#choose(this.#chosen, true);
    else return;
    event.preventDefault();
  }
}
