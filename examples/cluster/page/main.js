// The cluster's page: a feed that moves between two servers, and buttons that kill.
import { $, element, notice, toast } from "./demo/cards.js";
import { Proof, arrived } from "./demo/proof.js";
import { MovingFeed } from "./moving.js";
import { Chart, animate, fromZero } from "/newswire-chart.js";

const MOVE = 5000; // milliseconds at one server
const NAMES = ["one", "two"];
const WORDS = { connecting: "connecting", live: "live", dead: "moving to the other server" };
const { servers } = await (await fetch("servers.json")).json();
const ports = servers.map((url) => Number(new URL(url).port)).sort((one, other) => one - other);
const feed = new MovingFeed(["ticks", "notices"], { onEvent, onState, servers });
const proof = new Proof(feed);
globalThis.cluster = { feed }; // for the curious, at the console

const rate = { colour: "--one", fill: false, values: [] };
const chart = new Chart($("rate"), { lines: [rate], outages: feed.outages, bars: true, scale: fromZero(5), format: String });
const card = (name) => document.querySelector(`[data-name=${name}]`);

function onEvent({ channel, event, data, past }) {
  if (event === "gap") return notice(`Some events are gone from the log: ${data.reason}`, "bad", Date.now());
  if (!past) arrived(rate.values);
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
  if (next === "live" && state !== "live") proof.soon();
  state = next;
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
  proof.show();
  const second = Math.floor(Date.now() / 1000) * 1000 - 1000;
  const now = rate.values.find(([at]) => at === second)?.[1] ?? 0;
  $("rate-now").replaceChildren(element("b", "", String(now)), element("i", "", " a second"));
  chart.draw(Date.now());
});
setInterval(() => feed.state === "live" && feed.move(), MOVE);
feed.start();
