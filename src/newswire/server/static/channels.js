// The table of channels: what they have, sorted, filtered, chosen. Rows keep their places while somebody points at them
// or walks through them with the keyboard; otherwise their order is looked at again every three seconds.
//
// The numbers that come each second have the newest channels only. What the filter says is therefore asked of the
// server too, which knows all that are alive.

import { paint, short } from "../newswire-chart.js";
import { el, nameOf } from "./tail.js";

const SHOWN = 100; // channels in the table
const MOST = 500;  // channels that are remembered while the order is held
const REST = 3000; // milliseconds between two looks at the order, and between two searches for the same text

export class ChannelTable {
  #card; #body; #filter; #empty; #note;
  #search = { text: "", at: -REST, asking: false, done: false, more: false, found: [] }; #now = null;
  #rows = new Map(); #sort = { by: "events", down: true }; #arrangedAt = -REST; #held = false; #chosen = null; #beyond = 0; #says = "";

  constructor(card, { body, filter, empty, note, onChoose }) {
    this.#card = card;
    this.#body = body;
    this.#filter = filter;
    this.#empty = empty;
    this.#note = note;
    filter.addEventListener("input", () => { this.#look(); this.#arrange(); });
    const scroll = body.closest(".scroll");
    scroll.addEventListener("pointerenter", () => (this.#held = true));
    scroll.addEventListener("pointerleave", () => (this.#held = false));
    for (const button of card.querySelectorAll("[data-sort]")) button.addEventListener("click", () => this.#sortBy(button));
    body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row && !getSelection().toString()) onChoose(row.dataset.channel);
    });
  }

  get names() { return [...this.#rows.keys()]; }

  choose(name) {
    this.#chosen = name;
    for (const [key, row] of this.#rows) this.#mark(key, row);
  }

  #mark(name, row) {
    row.tr.classList.toggle("chosen", name === this.#chosen);
    row.name.setAttribute("aria-pressed", String(name === this.#chosen));
  }

  #newRow(name) {
    const tr = el("tr"), button = el("button", "name"), cells = [el("td", "rate"), el("td", "events"), el("td", "readers")];
    button.type = "button";
    button.append(nameOf(name));
    tr.dataset.channel = name;
    paint(button, name);
    const first = el("td");
    first.append(button);
    tr.append(first, ...cells);
    const row = { tr, name: button, cells, rate: 0, events: 0, seenEvents: null, found: null, subscribers: 0, seen: 0 };
    this.#mark(name, row);
    return row;
  }

  get #text() { return this.#filter.value.trim().toLowerCase(); }

  // Searches on the server for the filter's text: when it is another one, and now and then.
  async #look() {
    const text = this.#text, search = this.#search;
    if (text !== search.text) Object.assign(search, { text, at: -REST, done: false, more: false, found: [] });
    if (!text || search.asking || performance.now() - search.at < REST) return;
    search.asking = true;
    search.at = performance.now();
    try {
      const answer = await fetch(`channels?${new URLSearchParams({ contains: text, limit: MOST })}`, { signal: AbortSignal.timeout(5000) });
      if (answer.ok && text === this.#text) {
        const { channels, next } = await answer.json();
        Object.assign(search, { done: true, more: next !== null, found: channels.filter(({ kind }) => kind === "channel") });
        if (this.#now) { this.#take(this.#now, 0); this.#arrange(); }
      }
    } catch { /* the numbers say that the server is away */ }
    search.asking = false;
    if (text !== this.#text) this.#look();
  }

  #row(name) {
    let row = this.#rows.get(name);
    if (!row) this.#rows.set(name, (row = this.#newRow(name)));
    return row;
  }

  // `seconds` since the numbers before; null if these can't be compared with them, 0 if they are the same.
  #take(now, seconds) {
    const before = this.#rows.size, listed = new Set();
    for (const channel of now.channels) {
      const row = this.#row(channel.name);
      listed.add(channel.name);
      if (seconds !== 0 || row.seen !== now.now) {
        this.#pace(row, seconds && row.seenEvents !== null ? (channel.seen - row.seenEvents) / seconds : 0);
        row.seenEvents = channel.seen; // kept or not: it only grows
        row.found = null;
      }
      this.#fill(row, channel, now);
    }
    for (const channel of this.#search.found) {
      if (listed.has(channel.name)) continue;
      const row = this.#row(channel.name), { at } = this.#search;
      if (row.found?.at !== at) {
        this.#pace(row, row.found ? ((channel.events - row.found.events) * 1000) / (at - row.found.at) : 0);
        row.found = { at, events: channel.events };
        row.seenEvents = null;
      }
      this.#fill(row, channel, now);
    }
    return this.#rows.size > before;
  }

  #pace(row, rate) {
    rate = Math.max(0, rate);
    row.rate = rate === 0 && row.rate < 0.3 ? 0 : row.rate + (rate - row.rate) * 0.4;
  }

  #fill(row, channel, now) {
    row.events = channel.events;
    row.subscribers = channel.subscribers;
    row.seen = now.now;
    const values = [row.rate ? (row.rate < 9.5 ? row.rate.toFixed(1) : short(row.rate)) : "–", short(row.events), short(row.subscribers)];
    values.forEach((value, i) => {
      if (row.cells[i].textContent !== value) row.cells[i].textContent = value;
      row.cells[i].classList.toggle("still", value === "–" || value === "0");
    });
  }

  // `seconds` since the numbers before; null if these can't be compared with them.
  show(now, seconds) {
    this.#now = now;
    this.#look();
    const fresh = this.#take(now, seconds);
    for (const row of this.#rows.values()) row.tr.classList.toggle("gone", row.seen !== now.now);
    this.#beyond = now.channels_seen > now.channels.length ? now.channels_seen - now.channels.length : 0;
    this.#says = this.#readers(now.patterns) + (now.complete ? "" : " The log has older events, which are not counted.");
    const still = this.#held || this.#body.contains(document.activeElement);
    if (!still && performance.now() - this.#arrangedAt > REST) {
      for (const [name, row] of this.#rows) if (row.seen !== now.now) this.#rows.delete(name);
      this.#arrange();
    } else if (fresh) this.#append();
    for (const [name, { seen, tr }] of this.#rows) // the table may be held for hours, while channels come and go
      if (this.#rows.size > MOST && seen !== now.now && !tr.isConnected) this.#rows.delete(name);
    this.#tell(this.#fitting().length);
  }

  #readers(patterns) {
    if (!patterns.length) return "";
    return `Readers by pattern: ${patterns.map(({ name, subscribers }) => `${name} (${short(subscribers)})`).join(", ")}.`;
  }

  #fitting() {
    const text = this.#text;
    return [...this.#rows].filter(([name]) => name.toLowerCase().includes(text));
  }

  // What is new goes to the end, so that nothing moves.
  #append() {
    const rows = this.#fitting();
    for (const [, { tr }] of rows) if (!tr.isConnected && this.#body.childElementCount < SHOWN) this.#body.append(tr);
    this.#tell(rows.length);
  }

  #arrange() {
    this.#arrangedAt = performance.now();
    const { by, down } = this.#sort;
    const value = ([name, row]) => (by === "name" ? name : row[by]);
    const rows = this.#fitting().sort((one, other) => {
      const [x, y] = [value(one), value(other)];
      const way = x < y ? -1 : x > y ? 1 : 0;
      return (down ? -way : way) || (one[0] < other[0] ? -1 : 1);
    });
    const shown = rows.slice(0, SHOWN).map(([, { tr }]) => tr);
    if (shown.length !== this.#body.children.length || shown.some((tr, i) => this.#body.children[i] !== tr)) {
      const focused = document.activeElement;
      this.#body.replaceChildren(...shown);
      if (focused?.isConnected && focused !== document.activeElement) focused.focus();
    }
    this.#tell(rows.length);
  }

  #tell(fitting) {
    this.#empty.hidden = fitting > 0;
    const text = this.#filter.value.trim(), { done, more } = this.#search;
    const none = done ? `No channel with streams or recent events has “${text}” in its name.` : `Looking for “${text}” …`;
    this.#empty.textContent = text ? none : "No channel yet. Publish an event, and its channel is there.";
    const hidden = fitting - this.#body.childElementCount + (text ? 0 : this.#beyond);
    const silent = text ? `${short(hidden)} more${more ? ", and others: write more of the name" : ""}. ` : `${short(hidden)} more, silent for longer. `;
    this.#note.textContent = `${hidden > 0 ? silent : ""}${this.#says}`.trim();
  }

  #sortBy(button) {
    const { sort: by } = button.dataset;
    this.#sort = { by, down: this.#sort.by === by ? !this.#sort.down : by !== "name" };
    for (const th of this.#card.querySelectorAll("th")) th.ariaSort = "none";
    button.closest("th").ariaSort = this.#sort.down ? "descending" : "ascending";
    this.#arrange();
  }
}
