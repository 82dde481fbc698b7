// The cluster's page: the demo's feed, which moves between two servers, and buttons that kill.
import { $, clock, notice, toast } from "./demo/cards.js";
import { Feed } from "./feed.js";
import { Chart, animate, fromZero } from "/newswire-chart.js";

const MOVE = 5000; // milliseconds at one server
const NAMES = ["one", "two"];
const WORDS = { connecting: "connecting", live: "live", dead: "moving to the other server" };
const { servers } = await (await fetch("servers.json")).json();
const ports = servers.map((url) => Number(new URL(url).port)).sort((one, other) => one - other);
const feed = new Feed(["ticks", "notices"], { onEvent, onState, servers });
globalThis.cluster = { feed }; // for the curious, at the console

const rate = { colour: "--one", fill: false, values: [] };
const chart = new Chart($("rate"), { lines: [rate], outages: feed.outages, bars: true, scale: fromZero(5), format: String });
const card = (name) => document.querySelector(`[data-name=${name}]`);

function onEvent({ channel, event, data, past }) {
  if (event === "gap") return notice(`Some events are gone from the log: ${data.reason}`, "bad", Date.now());
  if (!past) arrived();
  if (channel !== "notices") return;
  const kind = /killed|ended/.test(data.text) ? "bad" : "good";
  notice(data.text, kind, data.t);
  const [, name, pid] = /^(\w+): .*process (\d+)/.exec(data.text) ?? [];
  if (name) card(name.toLowerCase()).querySelector("p").textContent = kind === "good" ? `process ${pid}` : `process ${pid} is dead`;
}

let state = "";
function onState(next) {
  $("state").dataset.state = next;
  $("state").textContent = WORDS[next];
  const here = NAMES[ports.indexOf(Number(new URL(feed.base || location.href).port))];
  $("server").textContent = `at server ${here}`;
  for (const name of NAMES) card(name).toggleAttribute("data-here", next === "live" && name === here);
  if (next === "live" && state !== "live") setTimeout(audit, feed.counts.reconnects ? 2500 : 1000);
  state = next;
}

function arrived() {
  const second = Math.floor(Date.now() / 1000) * 1000;
  if (rate.values.at(-1)?.[0] === second) rate.values.at(-1)[1]++;
  else rate.values.push([second, 1]);
}

async function audit() {
  if (feed.state !== "live") return;
  try {
    const result = await feed.audit();
    if (!result) return;
    const good = !result.missing && !result.extra;
    if (!good) audit.bad = `${result.missing} missing, ${result.extra} too many`;
    $("audit").dataset.result = audit.bad ? "bad" : "good";
    $("audit").textContent = audit.bad ?? `Compared with the log at ${clock(Date.now())}: all ${feed.audited.toLocaleString()} events came here, each once`;
  } catch {
    // a server went away meanwhile; the next comparison covers what this one would have
  }
}

for (const button of document.querySelectorAll(".process .button"))
  button.addEventListener("click", async () => {
    const { name } = button.parentElement.dataset;
    const order = { method: "POST", body: name, headers: { "content-type": "application/x-newswire-kill" } };
    for (const base of [feed.base, ...servers]) {
      const answer = await fetch(`${base}/cluster/kill`, order).catch(() => null); // a server that kills itself gives none
      if (answer?.ok || base.endsWith(`:${ports[NAMES.indexOf(name)]}`)) break;
    }
    toast(`kill -9 to ${name}: it is started again`, "bad");
  });

animate(() => {
  for (const [name, count] of Object.entries(feed.counts)) {
    const place = $(name);
    if (!place) continue;
    place.textContent = count.toLocaleString();
    const zero = /good|bad/.test(place.parentElement.className); // of these there should be none
    if (zero) place.parentElement.className = count ? "bad" : "good";
  }
  const second = Math.floor(Date.now() / 1000) * 1000 - 1000;
  $("rate-now").textContent = `${rate.values.find(([at]) => at === second)?.[1] ?? 0} a second`;
  $("cursor").textContent = feed.cursor || "–";
  chart.draw(Date.now());
});
setInterval(audit, 10_000);
setInterval(() => feed.state === "live" && feed.move(), MOVE);
feed.start();
