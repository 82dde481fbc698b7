// Renews the pictures of docs/examples.md: node scripts/screenshots_pages.mjs [NAME...]. It starts each application in a
// folder of its own, uses its page as a person would, and shows it twice in one picture: wide and light, narrow and dark.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch } from "../tests/browser/launch.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const python = join(root, process.env.VENV ?? ".venv", "bin/python");
const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const LIVE = "document.getElementById('state').dataset.state === 'live'";

const SHOWN = 560 / 720; // a page's size in the picture
const heights = { notifications: 630, orders: 560 };

const post = (url, body) => fetch(url, { method: "POST", body });

// Each fills the application, and leaves the two pages as they are to be seen.
const uses = {
  async notifications({ url, wide }) {
    for (const text of ["Linus merged your pull request #218", "Deploy of shop-api to production finished in 3 min 12 s", "Your export is ready", "Barbara left a review on “Retention”"]) await post(`${url}/notify`, text);
    await post(`${url}/read/3`);
    for (const text of ["Certificate of shop.example expires in 14 days", "Grace mentioned you in #incident-42"]) await post(`${url}/notify`, text);
    await wide.waitForFunction("document.querySelectorAll('#rows .unread').length === 3");
  },
  async chat({ wide, narrow, url }) {
    const place = `${url}/#${Math.random().toString(36).slice(2)}`;
    for (const page of [wide, narrow]) await page.goto(place);
    await wide.click("#ideas button:nth-child(3)");
    for (const page of [wide, narrow]) await page.waitForFunction("document.querySelector('.text')?.textContent.includes('await run.write')");
  },
  async dashboard({ narrow }) {
    await narrow.click("#pause");
    await pause(25);
    await narrow.click("#pause");
    await pause(100);
  },
  async report({ wide, narrow }) {
    await wide.click("#start");
    await wide.waitForFunction("location.hash && document.getElementById('bar').value / document.getElementById('bar').max > 0.6");
    await narrow.goto(wide.url());
    await narrow.reload(); // only the part behind # is new
    await narrow.waitForFunction("document.querySelectorAll('#table tr').length === 8");
  },
  async room({ wide, narrow, browser, url }) {
    const third = await (await browser.newContext()).newPage();
    for (const [page, name] of [[wide, "Ada"], [narrow, "Grace"], [third, "Linus"]]) {
      await page.goto(`${url}/newswire.svg`);
      await page.evaluate(`localStorage.setItem("room.me", JSON.stringify({ member: "m-${name}", name: "${name}" }))`);
      await page.goto(`${url}/#launch`);
      await page.waitForFunction(LIVE);
    }
    const say = async (page, text) => {
      await page.fill("#text", text);
      await page.press("#text", "Enter");
      await pause(0.6);
    };
    await say(wide, "The release is out.");
    await say(wide, "Did anybody see an error?");
    await say(narrow, "None. I killed the server in the middle, and my page went on with the next message.");
    await say(third, "Nothing missing here.");
    await say(third, "And none of us had left.");
    await say(wide, "Then lunch.");
    for (const page of [wide, narrow]) await page.evaluate("document.activeElement.blur()");
  },
  async orders({ url, wide }) {
    for (const dish of ["Two lentil soups", "Margherita, no basil", "Green curry & rice", "Pancakes for table 4", "Espresso, twice"]) await post(`${url}/orders`, new URLSearchParams({ dish }));
    await wide.waitForFunction("document.querySelectorAll('#orders li').length === 5");
    await wide.click("#orders li:nth-child(5) button");
    await wide.click("#orders li:nth-child(4) button");
    await wide.waitForFunction("document.querySelectorAll('#orders .chip').length === 2");
    await wide.evaluate("document.activeElement.blur()");
  },
};

async function serve(name, folder) {
  const command = ["-m", "newswire.cli.main", "run", `examples.pages.${name}:app`, "--app-dir", root, "--port", "0"];
  const server = spawn(python, command, { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  for await (const text of server.stderr.setEncoding("utf8")) {
    const found = /http:\/\/[\d.]+:\d+/.exec(text);
    if (!found) continue;
    server.stderr.on("data", () => {});
    return [server, found[0]];
  }
  throw new Error(`${name} ended`);
}

async function picture(browser, name) {
  const folder = mkdtempSync(join(tmpdir(), "newswire-page-"));
  const [server, url] = await serve(name, folder);
  try {
    const pages = [];
    const height = heights[name] ?? 720;
    for (const [width, colorScheme] of [[1080, "light"], [390, "dark"]]) {
      const page = await (await browser.newContext({ viewport: { width, height }, colorScheme, deviceScaleFactor: 1.25 })).newPage();
      while (!(await page.goto(url).catch(() => null))) await pause(0.1);
      await page.waitForFunction(LIVE);
      pages.push(page);
    }
    const [wide, narrow] = pages;
    await uses[name]({ url, wide, narrow, browser });
    await pause(0.3);
    const shots = [];
    for (const page of pages) {
      await page.mouse.move(2, height - 2);
      shots.push((await page.screenshot()).toString("base64"));
    }
    const both = await (await browser.newContext({ viewport: { width: 1200, height: Math.round(height * SHOWN) + 44 }, deviceScaleFactor: 1.25 })).newPage();
    await both.setContent(
      `<style>body { margin: 0; height: 100vh; display: flex; justify-content: center; align-items: center; gap: 20px; background: #dfe5ee }
       img { height: ${height * SHOWN}px; border-radius: 12px; outline: 1px solid #0f1b3322 }</style>` +
        shots.map((shot) => `<img src="data:image/png;base64,${shot}">`).join(""),
    );
    await pause(0.3);
    const path = join(root, "docs/images", `page-${name}.png`);
    await both.screenshot({ path });
    console.log(`page-${name}.png`, Math.round(readFileSync(path).length / 1000), "kB");
    for (const page of [both, ...pages]) await page.context().close();
  } finally {
    server.kill("SIGINT");
    await new Promise((done) => (server.exitCode === null ? server.once("exit", done) : done()));
    rmSync(folder, { recursive: true });
  }
}

const browser = await launch();
try {
  for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(uses)) await picture(browser, name);
} finally {
  await browser.close();
}
