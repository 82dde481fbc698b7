// The console: asks for numbers once a second, and puts them where they belong.

import { MovingChart, short, sparkline } from "./chart.js";
import { Tail, el, paint } from "./tail.js";

const $ = id => document.getElementById(id);
const SHOWN = 100;       // channels in the table
const LOOK_BACK = 40;    // events that the tail starts with

// -- state of the connection: both the numbers and the tail have a say

const state = { numbers: false, tail: "connecting" };
function showState() {
  const live = state.numbers && state.tail === "live";
  $("state").textContent = live ? "live" : state.numbers ? state.tail : "no answer from the server";
  $("state").classList.toggle("live", live);
}

// -- the tail

const tail = new Tail($("tail"), {
  onState: name => { state.tail = name; showState(); },
  onCount: held => { $("pause").textContent = tail?.paused ? `Paused${held ? `: ${short(held)} new` : ""}` : "Pause"; },
  onStuck: stuck => { $("newest").hidden = stuck; },
});
let following = null;
function follow(name) {
  following = name;
  $("following").textContent = name ?? "all channels";
  $("unfollow").hidden = name === null;
  tail.clear();
  tail.follow(name, last ? lookBack(last) : "");
  for (const row of rows.values()) row.name.setAttribute("aria-pressed", String(row.key === name));
  if (name && !$("publish").channel.value && !/[*>]/.test(name)) $("publish").channel.value = name;
}
const lookBack = numbers => `${numbers.epoch}-${Math.max(0, numbers.offset - LOOK_BACK)}`;
function pause() {
  tail.paused = !tail.paused;
  $("pause").setAttribute("aria-pressed", String(tail.paused));
  $("pause").textContent = tail.paused ? "Paused" : "Pause";
}
$("pause").onclick = pause;
$("clear").onclick = () => tail.clear();
$("unfollow").onclick = () => follow(null);
$("newest").onclick = () => tail.toNewest();

// -- numbers

const chart = new MovingChart($("chart"), point => {
  $("hover").textContent = point ? `${short(point.value)}/s, ${point.ago} s ago` : "";
});
const sparks = { subscribers: [], deliveries: [] };
let last = null;

function spark(name, value) {
  const values = sparks[name];
  values.push(value);
  if (values.length > 60) values.shift();
  sparkline(document.querySelector(`[data-spark="${name}"]`), values);
}

function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0s";
  return units.slice(first, first + 2).map(([unit, size], i) => {
    const value = Math.floor((i ? seconds % units[first][1] : seconds) / size);
    return value + unit;
  }).join(" ");
}

function show(now) {
  const seconds = last ? Math.max(0.2, now.now - last.now) : 1;
  const same = last && last.epoch === now.epoch;
  const rate = same ? Math.max(0, now.offset - last.offset) / seconds : 0;
  const deliveries = same ? Math.max(0, now.delivered - last.delivered) / seconds : 0;
  if (last) chart.add(rate);
  $("rate").textContent = short(rate);
  $("chart").setAttribute("aria-label", `Events per second over the last two minutes; now ${short(rate)}`);
  $("subscribers").textContent = short(now.subscribers);
  $("deliveries").textContent = short(deliveries);
  spark("subscribers", now.subscribers);
  if (last) spark("deliveries", deliveries);
  note("subscribers-note", now.stalled ? `${short(now.stalled)} stalled: their clients take nothing` : "none stalled", now.stalled > 0);
  note("deliveries-note", `${short(now.delivered)} since the start`);
  $("kept").textContent = short(now.kept);
  note("kept-note", `events; ${short(now.offset)} ever published`);
  $("gaps").textContent = short(now.gaps);
  $("log").textContent = now.workers > 1 ? `${now.log}, ${now.workers} workers` : now.log;
  $("position").textContent = now.latest;
  $("uptime").textContent = duration(now.now - now.started);
  showChannels(now, same && last.worker === now.worker ? seconds : null);
  last = now;
}

function note(id, text, warn = false) {
  $(id).textContent = text;
  $(id).classList.toggle("warn", warn);
}

// -- channels

const rows = new Map();
const sort = { by: "rate", down: true };
let order = [], sortedAt = 0;

function newRow(name) {
  const tr = el("tr"), button = el("button", "name"), cells = [el("td", "rate"), el("td"), el("td")];
  button.append(el("span", "", name));
  button.title = `Follow ${name} in the tail`;
  button.setAttribute("aria-pressed", String(name === following));
  button.onclick = () => follow(following === name ? null : name);
  paint(button, name);
  const first = el("td");
  first.append(button);
  tr.append(first, ...cells);
  return { key: name, tr, name: button, cells, rate: 0, events: null, subscribers: 0, seen: 0 };
}

function showChannels(now, seconds) {
  for (const channel of now.channels) {
    let row = rows.get(channel.name);
    if (!row) rows.set(channel.name, row = newRow(channel.name));
    const fresh = seconds && row.events !== null ? Math.max(0, channel.events - row.events) / seconds : 0;
    row.rate = fresh === 0 && row.rate < 0.3 ? 0 : row.rate + (fresh - row.rate) * 0.4;
    row.events = channel.events;
    row.subscribers = channel.subscribers;
    row.seen = now.now;
    const values = [row.rate ? (row.rate < 9.5 ? row.rate.toFixed(1) : short(row.rate)) : "–", short(row.events), short(row.subscribers)];
    values.forEach((value, i) => {
      if (row.cells[i].textContent !== value) row.cells[i].textContent = value;
      row.cells[i].classList.toggle("still", value === "–" || value === "0");
    });
  }
  for (const [name, row] of rows) if (row.seen !== now.now) { row.tr.remove(); rows.delete(name); }
  $("channels-empty").hidden = rows.size > 0;
  // Rows that jump can't be read or clicked: the order is looked at again every three seconds.
  if (performance.now() - sortedAt > 3000 || order.length !== rows.size) arrange();
  const beyond = now.channels_seen - now.channels.length;
  $("channels-note").dataset.beyond = beyond > 0 ? beyond : "";
  suggest();
}

function arrange() {
  sortedAt = performance.now();
  const text = $("filter").value.trim().toLowerCase();
  const value = row => sort.by === "name" ? row.key : row[sort.by];
  order = [...rows.values()].sort((a, b) => {
    const x = value(a), y = value(b);
    const way = x < y ? -1 : x > y ? 1 : 0;
    return (sort.down ? -way : way) || (a.key < b.key ? -1 : 1);
  });
  const fitting = order.filter(row => row.key.toLowerCase().includes(text)), shown = fitting.slice(0, SHOWN);
  const body = $("channels");
  if (shown.length !== body.children.length || shown.some((row, i) => body.children[i] !== row.tr)) {
    const focused = document.activeElement;
    body.replaceChildren(...shown.map(row => row.tr));
    if (focused?.isConnected && focused !== document.activeElement) focused.focus();
  }
  const hidden = fitting.length - shown.length + Number($("channels-note").dataset.beyond || 0);
  $("channels-note").textContent = hidden > 0 ? `${short(hidden)} more, silent for longer` : "";
}

let suggested = "";
function suggest() {
  const names = [...rows.keys()].filter(name => !/[*>]/.test(name)).slice(0, 50), key = names.join("\n");
  if (key === suggested) return;
  suggested = key;
  $("known").replaceChildren(...names.map(name => { const option = el("option"); option.value = name; return option; }));
}

$("filter").oninput = arrange;
for (const button of document.querySelectorAll("[data-sort]")) {
  button.onclick = () => {
    sort.down = sort.by === button.dataset.sort ? !sort.down : button.dataset.sort !== "name";
    sort.by = button.dataset.sort;
    for (const th of document.querySelectorAll("th")) th.ariaSort = "none";
    button.closest("th").ariaSort = sort.down ? "descending" : "ascending";
    arrange();
  };
}

// -- publish

$("publish").onsubmit = async submit => {
  submit.preventDefault();
  const form = submit.target, button = form.querySelector("button"), answer = $("answer");
  const query = form.event.value ? "?" + new URLSearchParams({ event: form.event.value }) : "";
  button.disabled = true;
  try {
    const response = await fetch(`channels/${encodeURIComponent(form.channel.value)}${query}`, {
      method: "POST", body: form.data.value, headers: { "content-type": "text/plain; charset=utf-8" },
    });
    const body = await response.json();
    answer.textContent = response.ok ? `stored as ${body.id}` : body.detail;
    answer.classList.toggle("bad", !response.ok);
    if (response.ok) { form.data.value = ""; form.data.focus(); }
  } catch {
    answer.textContent = "The server does not answer; whether the event is stored is not known.";
    answer.classList.add("bad");
  }
  button.disabled = false;
};
$("publish").data.onkeydown = event => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("publish").requestSubmit();
  }
};

// -- keys

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { document.activeElement.blur(); return; }
  if (/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
  const action = { "/": () => $("filter").focus(), p: pause, n: () => $("publish").channel.focus() }[event.key];
  if (action) { event.preventDefault(); action(); }
});

// -- and on

async function ask() {
  try {
    const response = await fetch("console/stats", { signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(String(response.status));
    const now = await response.json(), first = last === null, anew = last && last.epoch !== now.epoch;
    state.numbers = true;
    show(now);
    if (first || anew) tail.follow(following, lookBack(now));
  } catch {
    state.numbers = false;
  }
  showState();
  setTimeout(ask, document.hidden ? 5000 : 1000);
}
ask();
