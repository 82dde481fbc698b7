// Puts what the stream brings where it belongs.
import { $, Job, Room, logLine, notice, toast } from "./cards.js";
import { Feed } from "./feed.js";
import { Proof, arrived } from "./proof.js";
import { Chart, animate, around, bytes, fromZero, percent as percents, pointer } from "/newswire-chart.js";

const CHANNELS = ["machine", "server", "job", "log", "room", "notices", "ticks"];
const WORDS = { connecting: "connecting", live: "live", dead: "the server is away" };
const percent = (value) => `${Math.round(value)} %`;
const speed = (value) => `${bytes(value)}/s`;

const delays = []; // milliseconds from a tick's making to its coming here, the newest 200
const job = new Job();
const feed = new Feed(CHANNELS, { onEvent, onState });
const proof = new Proof(feed);
const room = new Room(feed);
export { feed };
globalThis.demo = { feed }; // for the curious, at the console

const line = (colour, fill = false) => ({ colour, fill, values: [] });
const lines = {
  rate: [line("--before"), line("--one")],
  cpu: [line("--one", true)],
  memory: [line("--one")],
  network: [line("--one", true), line("--two")],
  disk: [line("--one", true), line("--two")],
};
let memoryTotal = 1;
const memoryScale = (low, high) => around(memoryTotal / 50)(low, high);
const whole = (value) => bytes(value, value < 10e9 ? 1 : 0);
const chart = (name, options) => new Chart($(name), { lines: lines[name], outages: feed.outages, ...options });
const charts = {
  rate: chart("rate", { bars: true, scale: fromZero(5), format: String }),
  cpu: chart("cpu", { scale: percents, format: (value) => `${value} %` }),
  memory: chart("memory", { scale: memoryScale, format: (value) => bytes(value, 2) }),
  network: chart("network", { scale: fromZero(5_000), format: whole }),
  disk: chart("disk", { scale: fromZero(50_000), format: whole }),
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
  job: { progress: (data) => job.progress(data), finished: (data) => job.finished(data) },
  log: { line: logLine },
  room: { say: (data) => room.said(data) },
  notices: {
    notice({ text, t }, past) {
      const kind = /killed|ended/.test(text) ? "bad" : "good";
      notice(text, kind, t);
      if (kind === "good" && !past) toast(text, kind); // that it died was said when it did
    },
  },
  ticks: {
    tick({ t }) {
      delays.push(Date.now() - t);
      if (delays.length > 200) delays.shift();
    },
  },
};

function onEvent({ channel, event, data, past }) {
  if (event === "gap") return notice(`Some events are gone from the log: ${data.reason}`, "bad", Date.now());
  if (!past) arrived(lines.rate[1].values);
  handlers[channel]?.[event]?.(data, past);
}

let state = "";
function onState(next) {
  $("state").dataset.state = next;
  $("state").textContent = WORDS[next];
  $("kill").disabled = next !== "live";
  if (next === "dead" && state === "live") toast("The server is dead. It is started again, and the stream goes on where it was.", "bad");
  if (next === "live") proof.soon();
  state = next;
}

// What the log took in the last minutes before this page was there to count.
async function before() {
  const { recent } = await (await fetch("/console/stats")).json();
  const began = Math.floor(Date.now() / 1000);
  lines.rate[0].values = recent.filter(([second]) => second < began).map(([second, events]) => [second * 1000, events]);
}

function show(now) {
  proof.show();
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
  if (memory !== undefined) tell("memory", bytes(memory), b(bytes(memory, 2)), i(` of ${bytes(memoryTotal, 0)}`));
  for (const [name, up, down] of [["network", "↓", "↑"], ["disk", "read", "write"]]) {
    const [first, second] = [value(name, 0), value(name, 1)];
    if (first === undefined) continue;
    const one = Object.assign(document.createElement("span"), { className: "one", textContent: `${up} ${speed(first)}` });
    const two = Object.assign(document.createElement("span"), { className: "two", textContent: `${down} ${speed(second)}` });
    tell(name, `${one.textContent}, ${two.textContent}`, one, two);
  }
  const second = Math.floor(time / 1000) * 1000 - (pointer.time === null ? 1000 : 0);
  const rate = lines.rate.reduce((sum, { values }) => sum + (values.find(([at]) => at === second)?.[1] ?? 0), 0);
  tell("rate", `${rate} a second`, b(String(rate)), i(" a second"));
  if (delays.length) {
    const sorted = delays.toSorted((one, other) => one - other);
    $("delay").textContent = `publisher to page: median ${sorted[sorted.length >> 1]} ms`;
  }
  if (feed.state === "dead") {
    const from = feed.outages.at(-1)?.from;
    $("state").textContent = from ? `the server is away: ${((now - from) / 1000).toFixed(1)} s` : WORDS.dead;
  }
}

$("kill").addEventListener("click", () => {
  fetch("/demo/kill", { method: "POST", headers: { "x-demo": "kill" } }).catch(() => {}); // the stream says that it is dead
});

animate((now) => {
  show(now);
  for (const each of Object.values(charts)) each.draw(now);
});
before().catch(() => {}); // then the chart begins empty
feed.start();
