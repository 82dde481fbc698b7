// Opens one page and does what pytest says, line by line: {"goto": url}, {"evaluate": script}, {"shot": {path, …}}.
// Each is answered with {"value": …} or {"error": …}. In the page every message of a native EventSource is noted, on the
// way to whoever listens, in `recorded`: [id, data].
import { launch, orders, tell } from "./launch.mjs";

const browser = await launch();
const page = await browser.newPage();
await page.addInitScript(() => {
  globalThis.recorded = [];
  const Native = globalThis.EventSource;
  globalThis.EventSource = class extends Native {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ lastEventId, data }) => recorded.push([lastEventId, data]));
    }
  };
});
page.on("pageerror", (error) => tell({ pageerror: String(error) }));
tell({ value: browser.version() });
for await (const order of orders()) {
  try {
    if (order.goto) await page.goto(order.goto);
    if (order.media) await page.emulateMedia(order.media);
    if (order.size) await page.setViewportSize(order.size);
    if (order.shot) await page.screenshot(order.shot);
    tell({ value: (order.evaluate && (await page.evaluate(order.evaluate))) ?? null }); // JSON has no undefined
  } catch (error) {
    tell({ error: String(error) });
  }
}
await browser.close();
