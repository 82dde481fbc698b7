// The console: asks for numbers once a second, and puts them where they belong. Its address says which channel it shows:
// /#channel=orders.eu, or a pattern.

import { ChannelTable } from "./channels.js";
import { StreamTable } from "./streams.js";
import { Chart, animate, fromZero, pointer, short, sparkline } from "../newswire-chart.js";
import { Tail, el, isPattern } from "./tail.js";

const $ = id => document.getElementById(id);

// -- state of the connection: both the numbers and the tail have a say

const state = { numbers: false, tail: "connecting", refused: "" };
function showState() {
  const live = state.numbers && state.tail === "live";
  const words = state.refused ? "not allowed" : live ? "live" : state.numbers ? state.tail : last ? "no answer from the server" : "connecting";
  if ($("state").textContent !== words) $("state").textContent = words;
  $("state").title = state.refused;
  if (state.refused && !last) $("tail-empty").textContent = state.refused;
  $("state").dataset.state = state.refused ? "dead" : live ? "live" : state.numbers || !last ? "connecting" : "dead";
}

// -- the tail, and the channel that it shows

const tail = new Tail($("tail"), {
  onState: name => { state.tail = name; showState(); },
  onCount: held => { $("pause").textContent = tail.paused ? `Paused${held ? `: ${short(held)} new` : ""}` : "Pause"; },
  onStuck: stuck => { $("newest").hidden = stuck; },
  onKept: (count, refused) => {
    const none = following === null
      ? "Nothing has come yet. Events appear here as they are published: with the form above, or with"
      : `No event of ${following} is kept. It appears here when one is published.`;
    $("tail-empty").textContent = count === null ? "" : refused ?? none;
    if (count === 0 && !refused && following === null)
      $("tail-empty").append(el("code", "", `curl -d 'It works' ${new URL("channels/news", location)}`));
  },
});
globalThis.newswire = { tail }; // for the curious, at the console
let following = null;
const wanted = () => new URLSearchParams(location.hash.slice(1)).get("channel") || null;

function follow(name) {
  following = name;
  $("following").textContent = name ?? "all channels";
  $("unfollow").hidden = name === null;
  document.title = name === null ? "newswire console" : `${name} · newswire console`;
  table.choose(name);
  askStreams();
  tail.follow(name, last);
  if (name && !isPattern(name)) $("publish").channel.value = name;
}
// The address leads; so the back button, a bookmark and a link that was sent do the same as a click.
function choose(name) {
  if (name === wanted()) return;
  if (name !== null) location.hash = new URLSearchParams({ channel: name });
  else { history.pushState(null, "", location.pathname + location.search); moved(); }
}
function moved() {
  if (location.hash && !location.hash.startsWith("#channel=")) return; // the skip link
  if (last && wanted() !== following) follow(wanted());
}
addEventListener("hashchange", moved);
addEventListener("popstate", moved);

function pause() {
  tail.paused = !tail.paused;
  $("pause").setAttribute("aria-pressed", String(tail.paused));
  $("pause").textContent = tail.paused ? "Paused" : "Pause";
}
$("pause").onclick = pause;
$("clear").onclick = () => tail.clear();
$("unfollow").onclick = () => choose(null);
$("newest").onclick = () => { tail.toNewest(); $("newest").hidden = true; };

// -- numbers

const table = new ChannelTable($("channels-card"), {
  body: $("channels"), filter: $("filter"), empty: $("channels-empty"), note: $("channels-note"),
  onChoose: name => choose(name === following ? null : name),
});
const streams = new StreamTable({ body: $("streams"), filter: $("filter"), empty: $("streams-empty"), note: $("streams-note") });
let streamsShown = false;
function askStreams() {
  if (streamsShown && last) streams.ask(following, last.now).catch(() => {}); // the numbers say that the server is away
}
$("show-streams").onclick = () => {
  streamsShown = !streamsShown;
  $("channels-title").textContent = streamsShown ? "Streams" : "Channels";
  $("show-streams").textContent = streamsShown ? "Show channels" : "Show streams";
  for (const id of ["channels-panel", "channels-note"]) $(id).hidden = streamsShown;
  for (const id of ["streams-panel", "streams-note"]) $(id).hidden = !streamsShown;
  askStreams();
};
const published = { colour: "--one", fill: true, values: [] };
const chart = new Chart($("chart"), { lines: [published], scale: fromZero(1), bars: true });
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
  const same = last && last.epoch === now.epoch && last.started === now.started;
  const deliveries = same ? Math.max(0, now.delivered - last.delivered) / seconds : 0;
  // The server's clock may be another than this page's: the chart is drawn by the server's.
  ahead = now.now * 1000 - Date.now();
  published.values = now.recent.filter(([second]) => second < Math.floor(now.now)).map(([second, events]) => [second * 1000, events]);
  $("chart").setAttribute("aria-label", `Events per second over the last two minutes; now ${short(rateAt(now.now * 1000 - 1000))}`);
  $("subscribers").textContent = short(now.subscribers);
  $("deliveries").textContent = short(deliveries);
  spark("subscribers", now.subscribers);
  if (last) spark("deliveries", deliveries);
  const pages = now.pages ? `${short(now.pages)} console page${now.pages === 1 ? "" : "s"} beside` : "";
  note("subscribers-note", now.stalled ? `${short(now.stalled)} stalled: they take nothing` : pages, now.stalled > 0);
  note("deliveries-note", `${short(now.delivered)} since the start`);
  $("kept").textContent = short(now.kept);
  note("kept-note", `of ${short(now.offset)} ever stored`);
  $("gaps").textContent = short(now.gaps);
  note("gaps-note", now.gaps ? "losses, each told to its reader" : "no reader has lost anything");
  const state = now.log_state === "down" ? "away: streams wait" : now.log_state === "behind" ? `${short(now.lag)} events behind` : "";
  $("log").textContent = [now.log, now.workers > 1 ? `${now.workers} workers` : "", state].filter(Boolean).join(", ");
  $("log").classList.toggle("warn", state !== "");
  $("log").title = now.outages || now.epochs ? `${now.outages} outages, ${now.epochs} times another log, since the start` : "";
  $("position").textContent = now.latest;
  $("uptime").textContent = duration(now.now - now.started);
  table.show(now, same && last.worker === now.worker ? seconds : null);
  last = now;
  suggest();
}

function note(id, text, warn = false) {
  $(id).textContent = text;
  $(id).classList.toggle("warn", warn);
}

let ahead = 0; // milliseconds
const rateAt = time => published.values.find(([second]) => second === Math.floor(time / 1000) * 1000)?.[1] ?? 0;
animate(now => {
  chart.draw(now + ahead);
  const at = pointer.time === null ? null : pointer.time + ahead;
  const ago = at === null ? 0 : Math.round((now + ahead - at) / 1000);
  $("rate").textContent = short(rateAt(at ?? (last?.now ?? 1) * 1000 - 1000));
  $("when").textContent = at === null ? "per second" : `per second, ${ago} s ago`;
});

let suggested = "";
function suggest() {
  const names = table.names.slice(0, 50), key = names.join("\n");
  if (key === suggested) return;
  suggested = key;
  $("known").replaceChildren(...names.map(name => { const option = el("option"); option.value = name; return option; }));
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

// -- signing in, where the server asks for a credential: the token goes into a cookie that no script can read

$("sign-in").onsubmit = async submit => {
  submit.preventDefault();
  const token = submit.target.token.value.trim(), answer = $("signed");
  submit.target.reset();
  try {
    const response = await fetch("session", { method: "POST", headers: { authorization: `Bearer ${token}` } });
    const stats = response.ok ? await fetch("console/stats") : response;
    if (stats.ok) { location.reload(); return; }
    const insecure = response.ok && stats.status === 401;
    answer.textContent = insecure ? "The browser keeps the cookie only over HTTPS, or on localhost." : (await stats.json()).detail;
  } catch {
    answer.textContent = "The server does not answer, or this is no token.";
  }
  answer.classList.add("bad");
};

// -- keys

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if ($("filter").value && document.activeElement === $("filter")) return; // the browser empties it
    document.activeElement.blur();
    return;
  }
  if (/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
  const action = { "/": () => $("filter").focus(), p: pause, n: () => $("publish").channel.focus() }[event.key];
  if (action) { event.preventDefault(); action(); }
});

// -- and on

class Refused extends Error {}

async function ask() {
  try {
    const response = await fetch("console/stats", { signal: AbortSignal.timeout(5000) });
    if (response.status === 401 || response.status === 403) throw new Refused((await response.json()).detail);
    if (!response.ok) throw new Error(String(response.status));
    const now = await response.json(), anew = last === null || last.epoch !== now.epoch;
    state.numbers = true;
    show(now);
    if (anew) follow(wanted());
    askStreams();
    state.refused = "";
  } catch (error) {
    state.numbers = false;
    state.refused = error instanceof Refused ? error.message : "";
  }
  showState();
  $("sign-in").hidden = !state.refused;
  setTimeout(ask, document.hidden ? 5000 : 1000);
}
ask();
