// Prints what each part of the package adds to a page: minified, and compressed with gzip. `--json` for programs.
//
// A part is what its import loads at once. What `connect` loads only when a page asks for it (a shared connection, the
// browser's own EventSource) has a line of its own.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const own = ["./connect.ts", "./source.ts", "./decoder.ts", "./errors.ts"]; // what the core has already
const parts = [
  ["core: connect, resume, watchdog", "connect", "index", ["./shared.ts", "./native.ts"]],
  ["+ shared: true", "source", "shared", own],
  ["+ native EventSource", "source", "native", own],
  ["+ streamRun, streamChat", "streamRun, streamChat", "run", own],
  ["+ React hooks", "useEvents, useRun", "react", [...own, "./run.ts", "react"]],
  ["EventSource class, alone", "EventSource", "eventsource", []],
];

export async function sizes() {
  const found = [];
  for (const [name, names, file, external] of parts) {
    const { outputFiles } = await build({
      stdin: { contents: `export { ${names} } from "./src/${file}.ts"`, resolveDir: here },
      bundle: true,
      minify: true,
      format: "esm",
      target: "es2022",
      external,
      write: false,
    });
    const [{ contents: bytes }] = outputFiles;
    found.push({ name, minified: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length });
  }
  const served = readFileSync(new URL("../src/newswire/browser/newswire.js", import.meta.url));
  found.push({ name: "/newswire.js: all but React", minified: served.length, gzip: gzipSync(served, { level: 9 }).length });
  return found;
}

const found = await sizes();
if (process.argv.includes("--json")) console.log(JSON.stringify(found));
else {
  const width = Math.max(...found.map(({ name }) => name.length));
  console.log(`${"bytes".padEnd(width)}  minified    gzip`);
  for (const { name, minified, gzip } of found) {
    console.log(`${name.padEnd(width)}  ${String(minified).padStart(8)}  ${String(gzip).padStart(6)}`);
  }
}
