// Renews docs/images: `make images`, or node scripts/screenshots.mjs [demo] [chat] [console] [cluster]. It runs the demo and a server
// of its own on free ports, lets them work for two minutes, kills what the pictures say was killed, and takes them.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch } from "../tests/browser/launch.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const images = join(root, "docs/images");
const python = join(root, process.env.VENV ?? ".venv", "bin/python");
const folder = mkdtempSync(join(tmpdir(), "newswire-images-"));
const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const wanted = (name) => process.argv.length < 3 || process.argv.includes(name);
const running = [];

const freePort = () =>
  new Promise((done) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });

// Starts a command that listens, and waits until it answers. Returns its address. It tries again when the port, or the
// one beside it, was taken meanwhile.
async function serve(...command) {
  for (let left = 4; ; left--) {
    const url = await served(command);
    if (url) return url;
    if (!left) throw new Error(`${command.join(" ")} ended`);
  }
}

async function served(command) {
  const port = await freePort();
  const process_ = spawn(python, [...command, "--port", String(port)], { cwd: root, stdio: "ignore" });
  running.push(process_);
  const url = `http://127.0.0.1:${port}`;
  for (;;) {
    if (process_.exitCode !== null) return null;
    if ((await fetch(`${url}/health/ready`).catch(() => null))?.ok) return url;
    await pause(0.1);
  }
}

const publish = (url, channel, event, data) =>
  fetch(`${url}/channels/${channel}?event=${event}`, { method: "POST", body: typeof data === "string" ? data : JSON.stringify(data) });

async function open(browser, url, { width = 1440, height = 900, theme = "light", scale = 1.35 } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, deviceScaleFactor: scale });
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

// Evaluated from outside: the pages' own policy lets no text be code.
async function until(page, condition) {
  for (const began = Date.now(); !(await page.evaluate(condition)); await pause(0.05))
    if (Date.now() - began > 120_000) throw new Error(`not in two minutes: ${condition}`);
}

async function demo(browser, url) {
  const page = await open(browser, `${url}/demo/`, { height: 864 });
  const say = (name, text) => publish(url, "room", "say", { name, text, t: Date.now() });
  const kill = async () => {
    await page.click("#kill");
    await until(page, 'demo.feed.state === "dead"');
    await until(page, 'demo.feed.state === "live"');
  };
  await say("Grace", "Did anybody see the CPU peak just now?");
  await pause(35);
  await say("Linus", "That is the job, packing the standard library.");
  await kill();
  await pause(25);
  await say("Grace", "I killed the server in the middle of that.");
  await say("Linus", "Nothing missing here.");
  await kill();
  await say("Ada", "0 lost, 0 doubled. Once more?");
  await pause(32);
  await page.mouse.move(5, 5);
  await page.screenshot({ path: join(images, "demo.png") });
}

async function cluster(browser, url) {
  const page = await open(browser, `${url}/cluster/`, { height: 700, scale: 1.2 });
  await until(page, "globalThis.cluster?.feed.counts.received > 100");
  await pause(12);
  for (const name of ["one", "valkey", "two"]) {
    const text = `document.querySelector("[data-name=${name}] p").textContent`;
    const before = await page.evaluate(text);
    await page.click(`[data-name=${name}] button`);
    await until(page, `${text} !== ${JSON.stringify(before)} && !${text}.endsWith("dead")`);
    await pause(8);
  }
  await page.mouse.move(5, 5);
  await page.screenshot({ path: join(images, "cluster.png") });
}

async function chat(browser, url) {
  const size = { width: 752, height: 736, scale: 1.1 };
  const place = `${url}/chat/#${Math.random().toString(36).slice(2, 10)}x`;
  const [light, dark] = [await open(browser, place, size), await open(browser, place, { ...size, theme: "dark" })];
  const ask = (question) =>
    light.evaluate((text) => {
      document.getElementById("question").value = text;
      document.forms.ask.requestSubmit();
    }, question);
  const newest = "[...chat.turns.values()].at(-1)";
  await pause(1);
  await ask("Write a Python function that adds two numbers.");
  await until(light, `chat.turns.size && ${newest}.end`);
  await ask("Tell me a story about a lighthouse keeper.");
  await until(light, `chat.turns.size > 1 && ${newest}.tokens > 60`);
  await light.click("#kill");
  for (const page of [light, dark]) await until(page, "document.querySelector('.seam')");
  await until(light, `${newest}.tokens > 100 && !document.querySelector('#toasts p')`);
  await light.mouse.move(5, 5);
  const shots = [await light.screenshot(), await dark.screenshot()];
  const both = await (await browser.newContext({ viewport: { width: 1576, height: 788 }, deviceScaleFactor: size.scale })).newPage();
  await both.setContent(
    `<style>body { margin: 0; display: flex; justify-content: center; align-items: center; gap: 18px; height: 100vh; background: #e4e9f0 }
     img { width: ${size.width}px; border-radius: 14px; box-shadow: 0 10px 34px #0f1b3333 }</style>` +
      shots.map((shot) => `<img src="data:image/png;base64,${shot.toString("base64")}">`).join(""),
  );
  await pause(0.5);
  await both.screenshot({ path: join(images, "chat.png") });
}

const any = (...choices) => choices[Math.floor(Math.random() * choices.length)];
const EVENTS = {
  "orders.eu": () => [any("created", "paid", "shipped"), { order: 10000 + Math.floor(Math.random() * 999), total: Math.round(Math.random() * 30000) / 100 }],
  "orders.us": () => [any("created", "paid", "shipped"), { order: 20000 + Math.floor(Math.random() * 999), total: Math.round(Math.random() * 30000) / 100 }],
  builds: () => ["progress", { commit: Math.random().toString(16).slice(2, 9), step: any("lint", "test", "package"), done: Math.floor(Math.random() * 100) }],
  "room.lobby": () => ["said", any("Guido: who broke main?", "Linus: coffee?", "Ada: ship it")],
  "machine.cpu": () => ["sample", { percent: Math.floor(Math.random() * 100) }],
  news: () => ["headline", any("Comet seen over Lisbon", "Rain until Friday", "It works")],
};

async function console_(browser, url) {
  const readers = ["orders.*", "orders.*", "news", "news", "machine.cpu", "builds", "orders.eu"];
  const leave = new AbortController();
  for (const channel of readers) fetch(`${url}/channels/${channel}`, { signal: leave.signal }).then((answer) => answer.body.pipeTo(new WritableStream())).catch(() => {});
  const page = await open(browser, url, { height: 864 });
  for (const began = Date.now(); Date.now() - began < 125_000; ) {
    const channel = any(...Object.keys(EVENTS), "orders.eu", "machine.cpu");
    await publish(url, channel, ...EVENTS[channel]());
    await pause(0.04 + 0.09 * (1 + Math.sin(Date.now() / 8000)));
  }
  await page.screenshot({ path: join(images, "console.png") });
  leave.abort();
}

const browser = await launch();
try {
  const work = [];
  if (wanted("console")) work.push(console_(browser, await serve("-m", "newswire.cli.main", "serve", "--log", `sqlite:///${folder}/console.db`)));
  if (wanted("demo")) work.push(demo(browser, await serve("-m", "examples.demo", "--no-browser", "--data", join(folder, "demo"))));
  await Promise.all(work);
  if (wanted("cluster")) await cluster(browser, await serve("-m", "examples.cluster", "--no-browser", "--rate", "60", "--data", join(folder, "cluster")));
  if (wanted("chat")) await chat(browser, await serve("-m", "examples.demo", "--no-browser", "--rate", "0", "--data", join(folder, "chat")));
} finally {
  await browser.close();
  for (const process_ of running) process_.kill("SIGINT");
  await Promise.all(running.map((process_) => process_.exitCode ?? new Promise((done) => process_.once("exit", done))));
  rmSync(folder, { recursive: true });
}
for (const name of ["demo", "chat", "console", "cluster"]) console.log(`${name}.png`, Math.round(readFileSync(join(images, `${name}.png`)).length / 1000), "kB");
