// The tail: one EventSource, and as many rows as a person can read. What comes faster is counted, and said.
// Data is only ever set as text.

import { short } from "./chart.js";

const ROWS = 400;        // in the page
const AT_ONCE = 10;      // rows added at a time, ten times a second
const CUT = 2_000;       // characters of a row's data; an opened row shows up to FULL
const FULL = 100_000;

export function hue(name) {
  let hash = 2166136261;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  return (hash >>> 0) * 137.508 % 360;
}

export function paint(node, name) {
  node.style.setProperty("--own", `hsl(${hue(name)} var(--channel-sat) var(--channel-light))`);
}

export function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });

export class Tail {
  #list; #source = null; #pending = []; #skipped = 0; #paused = false; #held = 0; #channel = null; #lastId = "";
  #onState; #onCount; #stuck = true; #chosen = null; #wait = 1000; #retry = 0; #arrived = 0;

  constructor(list, { onState, onCount, onStuck }) {
    this.#list = list;
    this.#onState = onState;
    this.#onCount = onCount;
    list.addEventListener("scroll", () => {
      this.#stuck = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
      onStuck(this.#stuck);
    }, { passive: true });
    list.addEventListener("click", event => this.#choose(event.target.closest(".row"), true));
    list.addEventListener("keydown", event => this.#key(event));
    setInterval(() => this.#flush(), 100);
  }

  get arrived() { return this.#arrived; }

  // Follow a channel, or all (null), after the position `id`.
  follow(channel, id = "") {
    this.#channel = channel;
    this.#lastId = id;
    this.#pending = [];
    this.#skipped = 0;
    this.#connect();
  }

  #connect() {
    clearTimeout(this.#retry);
    this.#source?.close();
    const query = new URLSearchParams({ channel: this.#channel ?? ">", envelope: "json" });
    if (this.#lastId) query.set("last_event_id", this.#lastId);
    const source = this.#source = new EventSource("stream?" + query);
    source.onopen = () => { this.#wait = 1000; this.#onState("live"); };
    source.onmessage = message => {
      this.#arrived++;
      this.#lastId = message.lastEventId;
      this.#pending.push(message);
      if (this.#pending.length > AT_ONCE * 5) { this.#skipped += AT_ONCE * 4; this.#pending.splice(0, AT_ONCE * 4); }
    };
    source.onerror = () => {
      this.#onState("reconnecting");
      // A browser gives up for good after a 5xx; this page does not.
      if (source.readyState === EventSource.CLOSED && source === this.#source) {
        this.#retry = setTimeout(() => this.#connect(), this.#wait);
        this.#wait = Math.min(this.#wait * 1.7, 15_000);
      }
    };
  }

  get paused() { return this.#paused; }
  set paused(value) {
    this.#paused = value;
    this.#held = 0;
    this.#onCount(0);
  }

  clear() { this.#list.replaceChildren(); this.#chosen = null; }

  toNewest() { this.#list.scrollTop = this.#list.scrollHeight; }

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
    for (const message of this.#pending.slice(extra)) rows.append(this.#row(message));
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

  #row(message) {
    let event;
    try { event = JSON.parse(message.data); } catch { event = { channel: null, event: "message", data: message.data }; }
    if (event.channel === null) return this.#notice(event);
    const row = el("div", "row"), from = el("span", "from"), what = el("span", "what");
    paint(row, event.channel);
    from.append(el("span", "", event.channel));
    from.title = event.channel;
    if (event.event !== "message") what.append(el("span", "kind", event.event));
    what.append(event.data.slice(0, CUT));
    row.append(el("time", "", clock.format(new Date())), from, what);
    row.event = { ...event, id: message.lastEventId };
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
