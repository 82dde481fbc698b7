// Builds the package from `src`, with what the lock file names and nothing else:
//
//     dist/*.js, *.d.ts and their maps       the package: a module for each source
//     ../src/newswire/browser/newswire.js    all of it but React in one file, which Python serves; dist has it too
//
// `node build.mjs --check` builds nothing: it fails if the served file is not what `src` gives.
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const served = here("../src/newswire/browser/newswire.js");
const { version } = JSON.parse(readFileSync(here("package.json"), "utf8"));

const { outputFiles } = await build({
  entryPoints: [here("src/browser.ts")],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  banner: { js: `// newswire ${version}, made from js/src by \`make js\`` },
  write: false,
});
const made = outputFiles[0].text;

if (process.argv.includes("--check")) {
  if (readFileSync(served, "utf8") !== made) {
    console.error("src/newswire/browser/newswire.js is not what js/src gives: run `make js`");
    process.exit(1);
  }
} else {
  rmSync(here("dist"), { recursive: true, force: true });
  const tsc = createRequire(import.meta.url).resolve("typescript/package.json").replace("package.json", "bin/tsc");
  const { status } = spawnSync(process.execPath, [tsc, "-p", here("tsconfig.build.json")], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
  writeFileSync(served, made);
  writeFileSync(here("dist/browser.min.js"), made);
}
