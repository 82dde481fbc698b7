// Opens pages and does what pytest says, line by line: {"goto": url}, {"reload": true}, {"evaluate": script},
// {"shot": {path, …}}, {"press": "Tab"}, {"type": text}, {"offline": true}; with {"tab": 1} in a second tab. Each is answered with {"value": …} or {"error": …}. In the page every message of a native EventSource is noted, on the
// way to whoever listens, in `recorded`: [id, data].
//
// Tests share the browser, and each has a context of its own, with its own storage, workers and connections: {"open": options}
// begins it and {"shut": true} ends it. All that is said to it, and by it, has its number: {"context": 3}.
import { launch, orders, tell } from "./launch.mjs";

const browser = await launch();
const contexts = new Map(); // by number: the context and its tabs
async function open(number, own) {
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
  contexts.set(number, { context, tabs: new Map() });
}
async function shut(number) {
  await contexts.get(number).context.close();
  contexts.delete(number);
}
async function tab(number, of) {
  const { context, tabs } = contexts.get(of);
  if (!tabs.has(number)) {
    const page = await context.newPage();
    tabs.set(number, page);
    page.on("pageerror", (error) => tell({ context: of, pageerror: String(error) }));
    page.on("console", (message) => message.type() === "error" && tell({ context: of, console: message.text() }));
  }
  return tabs.get(number);
}
tell({ value: browser.version() });
for await (const order of orders()) {
  try {
    if (order.open) await open(order.context, order.open);
    if (order.open || order.shut) {
      if (order.shut) await shut(order.context);
      tell({ value: null });
      continue;
    }
    const page = await tab(order.tab ?? 0, order.context);
    if (order.reload) await page.reload();
    if (order.goto) await page.goto(order.goto);
    if (order.media) await page.emulateMedia(order.media);
    if (order.size) await page.setViewportSize(order.size);
    if (order.offline != null) await page.context().setOffline(order.offline);
    if (order.press) await page.keyboard.press(order.press);
    if (order.type) await page.keyboard.type(order.type);
    if (order.shot) await page.screenshot(order.shot);
    tell({ value: (order.evaluate && (await page.evaluate(order.evaluate))) ?? null }); // JSON has no undefined
  } catch (error) {
    tell({ error: String(error) });
  }
}
await browser.close();
