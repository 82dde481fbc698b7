// Opens pages and does what pytest says, line by line: {"goto": url}, {"reload": true}, {"evaluate": script},
// {"shot": {path, …}}, {"press": "Tab"}, {"type": text}, {"offline": true}; with {"tab": 1} in a second tab. Each is answered with {"value": …} or {"error": …}. In the page every message of a native EventSource is noted, on the
// way to whoever listens, in `recorded`: [id, data].
import { launch, orders, tell } from "./launch.mjs";

const browser = await launch();
const own = JSON.parse(process.argv[2] ?? "{}"); // options of the context
const context = await browser.newContext({ ignoreHTTPSErrors: true, ...own }); // the certificates of tests are their own
await context.addInitScript(() => {
  globalThis.recorded = [];
  const Native = globalThis.EventSource;
  globalThis.EventSource = class extends Native {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ lastEventId, data }) => recorded.push([lastEventId, data]));
    }
  };
});
const tabs = new Map();
async function tab(number) {
  if (!tabs.has(number)) {
    tabs.set(number, await context.newPage());
    tabs.get(number).on("pageerror", (error) => tell({ pageerror: String(error) }));
    tabs.get(number).on("console", (message) => message.type() === "error" && tell({ console: message.text() }));
  }
  return tabs.get(number);
}
tell({ value: browser.version() });
for await (const order of orders()) {
  try {
    const page = await tab(order.tab ?? 0);
    if (order.reload) await page.reload();
    if (order.goto) await page.goto(order.goto);
    if (order.media) await page.emulateMedia(order.media);
    if (order.size) await page.setViewportSize(order.size);
    if (order.offline != null) await context.setOffline(order.offline);
    if (order.press) await page.keyboard.press(order.press);
    if (order.type) await page.keyboard.type(order.type);
    if (order.shot) await page.screenshot(order.shot);
    tell({ value: (order.evaluate && (await page.evaluate(order.evaluate))) ?? null }); // JSON has no undefined
  } catch (error) {
    tell({ error: String(error) });
  }
}
await browser.close();
