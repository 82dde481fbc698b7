// As page.mjs, for what a page's life needs: pages that the browser may hide and freeze. (Playwright holds all its pages
// visible and awake, and a page that is held so is never frozen.) It speaks the DevTools protocol itself: {"goto": url},
// {"evaluate": script}, {"heap": true}: what the page holds after a collection, and how busy it was, {"lifecycle": "frozen"}, {"crash": true}, {"close": true}; with {"tab": 1} in another tab.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { browser as settings, orders, tell } from "./launch.mjs";

const profile = mkdtempSync(join(tmpdir(), "newswire-browser-"));
const { executablePath, args, env } = settings;
const flags = [...args, "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"];
const process_ = spawn(executablePath, flags, { env, stdio: "ignore" });
const place = join(profile, "DevToolsActivePort");
while (!existsSync(place) || !readFileSync(place, "utf8").includes("\n")) await new Promise((done) => setTimeout(done, 20));
const [port, path] = readFileSync(place, "utf8").split("\n");
const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
await new Promise((done) => (socket.onopen = done));

let number = 0;
const waiting = new Map();
const listening = new Map(); // by the session and the name of an event
socket.onmessage = ({ data }) => {
  const { id, result, error, method, sessionId } = JSON.parse(data);
  if (method) return listening.get(`${sessionId} ${method}`)?.();
  const [done, failed] = waiting.get(id);
  waiting.delete(id);
  if (error) failed(new Error(error.message));
  else done(result);
};
function send(method, params = {}, sessionId = undefined) {
  return new Promise((done, failed) => {
    waiting.set(++number, [done, failed]);
    socket.send(JSON.stringify({ id: number, method, params, sessionId }));
  });
}
const event = (session, name) => new Promise((done) => listening.set(`${session} ${name}`, done));

const tabs = new Map();
async function tab(number) {
  if (!tabs.has(number)) {
    const { targetId } = await send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
    await send("Page.enable", {}, sessionId);
    await send("Inspector.enable", {}, sessionId);
    tabs.set(number, { targetId, sessionId });
  }
  return tabs.get(number);
}

async function evaluate(expression, session) {
  const params = { expression, awaitPromise: true, returnByValue: true };
  const { result, exceptionDetails } = await send("Runtime.evaluate", params, session);
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value;
}

async function measure(session) {
  const { metrics } = await send("Performance.getMetrics", {}, session);
  return Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
}

// The collector is called until it finds nothing more: what one call frees may have held something else. `busy` is the
// CPU time that the page's main thread took since the last call, in seconds, without these collections.
const collected = new Map(); // by session, the main thread's time after the last collection
async function heap(session) {
  await send("Performance.enable", { timeDomain: "threadTicks" }, session);
  const { TaskDuration } = await measure(session);
  const busy = TaskDuration - (collected.get(session) ?? TaskDuration);
  for (let last = Infinity; ; ) {
    await send("HeapProfiler.collectGarbage", {}, session);
    const found = await measure(session);
    if (found.JSHeapUsedSize > last * 0.998) {
      collected.set(session, found.TaskDuration);
      return { ...found, busy };
    }
    last = found.JSHeapUsedSize;
  }
}

tell({ value: (await send("Browser.getVersion")).product });
for await (const order of orders()) {
  try {
    const { targetId, sessionId } = await tab(order.tab ?? 0);
    if (order.goto) {
      const loaded = event(sessionId, "Page.loadEventFired");
      await send("Page.navigate", { url: order.goto }, sessionId);
      await loaded;
    }
    if (order.lifecycle) await send("Page.setWebLifecycleState", { state: order.lifecycle }, sessionId);
    if (order.crash) {
      const crashed = event(sessionId, "Inspector.targetCrashed");
      send("Page.crash", {}, sessionId).catch(() => {}); // it answers nothing any more
      await crashed;
    }
    if (order.close) await send("Target.closeTarget", { targetId });
    if (order.heap) tell({ value: await heap(sessionId) });
    else tell({ value: (order.evaluate && (await evaluate(order.evaluate, sessionId))) ?? null });
  } catch (error) {
    tell({ error: String(error) });
  }
}
const gone = new Promise((done) => process_.once("exit", done));
send("Browser.close").catch(() => {});
await gone;
rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
process.exit();
