// Starts the Chromium that tests/browser/unpack.mjs has laid out, with an empty profile and nothing of its own to do.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const home = join(dirname(fileURLToPath(import.meta.url)), "../../node_modules/.chromium");
const flags = [
  "--headless=shell", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--host-resolver-rules=MAP plain.test 127.0.0.1", // a name of a network: to a browser, only localhost is as safe as https
];

export const browser = {
  executablePath: join(home, "chromium"),
  args: flags,
  env: { ...process.env, FONTCONFIG_PATH: join(home, "fonts"), LD_LIBRARY_PATH: join(home, "al2023/lib") },
};

export const launch = () => chromium.launch(browser);

// One JSON object a line, which is what pytest reads.
export const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

// Lines from pytest, one JSON object each; ends when pytest closes stdin.
export async function* orders() {
  let rest = "";
  for await (const data of process.stdin.setEncoding("utf8")) {
    const lines = (rest + data).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}
