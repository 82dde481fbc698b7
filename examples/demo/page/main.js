// Puts what the stream brings where it belongs.
import { $, Job, Room, clock, logLine, notice, toast } from "./cards.js";
import { Chart, bytes, forgetColours, pointer, round } from "./charts.js";
import { Feed } from "./feed.js";

const CHANNELS = ["machine", "server", "job", "log", "room", "notices", "ticks"];
const WORDS = { connecting: "connecting", live: "live", dead: "the server is away" };
const percent = (value) => `${Math.round(value)} %`;
const speed = (value) => `${bytes(value)}/s`;

const delays = []; // milliseconds from a tick's making to its coming here, the newest 200
const job = new Job();
const feed = new Feed(CHANNELS, { onEvent, onState });
const room = new Room(feed);
export { feed };
globalThis.demo = { feed }; // for the curious, at the console

const line = (colour, fill = false) => ({ colour, fill, values: [] });
const lines = { rate: [line("--one")], cpu: [line("--one", true)], memory: [line("--one", true)], network: [line("--one", true), line("--two")], disk: [line("--one", true), line("--two")] };
const hundred = { scale: () => 100, format: (value) => `${value} %` };
let memoryTotal = 1;
const charts = {
  rate: new Chart($("rate"), { lines: lines.rate, bars: true, scale: (top) => round(top, 10), format: String, outages: feed.outages }),
  cpu: new Chart($("cpu"), { lines: lines.cpu, ...hundred, outages: feed.outages }),
  memory: new Chart($("memory"), { lines: lines.memory, scale: () => memoryTotal, format: (value) => bytes(value, 0), outages: feed.outages }),
  network: new Chart($("network"), { lines: lines.network, scale: (top) => round(top, 10_000), format: (value) => bytes(value), outages: feed.outages }),
  disk: new Chart($("disk"), { lines: lines.disk, scale: (top) => round(top, 100_000), format: (value) => bytes(value), outages: feed.outages }),
};

const handlers = {
  machine: {
    sample({ t, cores, memory, total, received, sent, read, written }) {
      memoryTotal = total;
      lines.cpu[0].values.push([t, cores.reduce((sum, core) => sum + core, 0) / cores.length]);
      lines.memory[0].values.push([t, memory]);
      lines.network[0].values.push([t, received]);
      lines.network[1].values.push([t, sent]);
      lines.disk[0].values.push([t, read]);
      lines.disk[1].values.push([t, written]);
    },
  },
  server: {
    sample({ pid, cpu, rss, subscribers }) {
      $("process").textContent = `process ${pid} · ${Math.round(cpu)} % CPU · ${bytes(rss)} · ${subscribers} stream${subscribers === 1 ? "" : "s"}`;
      $("try").textContent = `kill -9 ${pid}`;
    },
  },
  job: { progress: (data) => job.progress(data), finished: (data, past) => job.finished(data, past) },
  log: { line: logLine },
  room: { say: (data) => room.said(data) },
  notices: { notice: ({ text, t }, past) => notice(text, /killed|ended/.test(text) ? "bad" : "good", t, past) },
  ticks: {
    tick({ t }) {
      delays.push(Date.now() - t);
      if (delays.length > 200) delays.shift();
    },
  },
};

function onEvent({ channel, event, data, past }) {
  if (event === "gap") return notice(`Some events are gone from the log: ${data.reason}`, "bad", Date.now(), false);
  if (!past) arrived();
  handlers[channel]?.[event]?.(data, past);
}

function onState(state) {
  $("state").dataset.state = state;
  $("state").textContent = WORDS[state];
  $("kill").disabled = state !== "live";
  if (state === "live" && feed.counts.reconnects) setTimeout(audit, 2500); // what was missed has come by then
}

function arrived() {
  const { values } = lines.rate[0];
  const second = Math.floor(Date.now() / 1000) * 1000;
  if (values.at(-1)?.[0] === second) values.at(-1)[1]++;
  else values.push([second, 1]);
}

async function audit() {
  if (feed.state !== "live") return;
  try {
    const result = await feed.audit();
    if (!result) return;
    const good = !result.missing && !result.extra;
    if (!good) audit.bad = `${result.missing} missing, ${result.extra} too many`;
    $("audit").dataset.result = audit.bad ? "bad" : "good";
    $("audit").textContent = audit.bad ?? `Compared with the log at ${clock(Date.now())}: all ${feed.audited.toLocaleString()} stored events came here, each once`;
  } catch {
    // the server went away meanwhile; the next comparison covers what this one would have
  }
}

function show(now) {
  for (const [name, count] of Object.entries(feed.counts)) {
    const place = $(name);
    if (!place) continue;
    place.textContent = count.toLocaleString();
    place.parentElement.toggleAttribute("data-bad", place.parentElement.className === "zero" && count > 0);
  }
  const time = pointer.time ?? now;
  const value = (name, i = 0) => charts[name].at(lines[name][i], time);
  const tell = (name, text, ...parts) => {
    $(`${name}-now`).replaceChildren(...parts);
    $(name).setAttribute("aria-label", `${name}: ${text}`);
  };
  const b = (text, className = "") => Object.assign(document.createElement("b"), { textContent: text, className });
  const i = (text) => Object.assign(document.createElement("i"), { textContent: text });
  const [cpu, memory] = [value("cpu"), value("memory")];
  if (cpu !== undefined) tell("cpu", percent(cpu), b(percent(cpu)));
  if (memory !== undefined) tell("memory", bytes(memory), b(bytes(memory)), i(` of ${bytes(memoryTotal, 0)}`));
  for (const [name, up, down] of [["network", "↓", "↑"], ["disk", "read", "write"]]) {
    const [first, second] = [value(name, 0), value(name, 1)];
    if (first === undefined) continue;
    const one = Object.assign(document.createElement("span"), { className: "one", textContent: `${up} ${speed(first)}` });
    const two = Object.assign(document.createElement("span"), { className: "two", textContent: `${down} ${speed(second)}` });
    tell(name, `${one.textContent}, ${two.textContent}`, one, two);
  }
  const second = Math.floor(time / 1000) * 1000 - (pointer.time === null ? 1000 : 0);
  const rate = lines.rate[0].values.find(([at]) => at === second)?.[1] ?? 0;
  tell("rate", `${rate} a second`, b(String(rate)), i(" a second"));
  $("cursor").textContent = feed.cursor || "–";
  if (delays.length) {
    const sorted = delays.toSorted((one, other) => one - other);
    $("delay").textContent = `from publisher to page: median ${sorted[sorted.length >> 1]} ms`;
  }
  if (feed.state === "dead") {
    const from = feed.outages.at(-1)?.from;
    $("state").textContent = from ? `the server is away: ${((now - from) / 1000).toFixed(1)} s` : WORDS.dead;
  }
}

const THEMES = { auto: ["◐", "as the system says"], light: ["☀", "light"], dark: ["☾", "dark"] };
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  [$("theme").textContent] = THEMES[theme];
  $("theme").setAttribute("aria-label", `Colours: ${THEMES[theme][1]}`);
  $("theme").title = `Colours: ${THEMES[theme][1]}`;
  localStorage.setItem("theme", theme);
  forgetColours();
}
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", forgetColours);
setTheme(localStorage.getItem("theme") in THEMES ? localStorage.getItem("theme") : "auto");

$("kill").addEventListener("click", async () => {
  try {
    await fetch("/demo/kill", { method: "POST", headers: { "x-demo": "kill" } });
  } catch {
    toast("kill -9: the server is dead. It is started again, and the stream goes on where it was.");
  }
});

const calm = matchMedia("(prefers-reduced-motion: reduce)");
let drawn = 0;
function frame(time) {
  if (time - drawn >= (calm.matches ? 1000 : 66)) {
    drawn = time;
    const now = Date.now();
    show(now);
    for (const chart of Object.values(charts)) chart.draw(now);
  }
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
setInterval(audit, 10_000);
feed.start();
