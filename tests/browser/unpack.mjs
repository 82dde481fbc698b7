// Unpacks the Chromium of @sparticuz/chromium into node_modules/.chromium, so that a browser test starts a file that
// is there already. Called by scripts/setup.sh after `npm ci`; a second call finds it and does nothing.
import { existsSync, mkdtempSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(import.meta.url);
const bin = join(dirname(require.resolve("@sparticuz/chromium")), "..", "bin");
const modules = join(bin, "../../..");
const target = join(modules, ".chromium");

if (!existsSync(target)) {
  const staging = mkdtempSync(join(modules, ".chromium-"));
  process.env.TMPDIR = staging; // where `inflate` writes
  const { inflate } = await import("@sparticuz/chromium");
  // al2023 brings NSS and what else a bare machine may lack
  await Promise.all(["chromium.br", "fonts.tar.br", "al2023.tar.br"].map((name) => inflate(join(bin, name))));
  // its own fonts.conf names the folders of another place; this machine's fonts come first, if there are any
  const folders = ["/usr/share/fonts", "/usr/local/share/fonts", join(target, "fonts/fonts")];
  writeFileSync(
    join(staging, "fonts/fonts.conf"),
    `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>${folders
      .map((folder) => `<dir>${folder}</dir>`)
      .join("")}<cachedir>${join(target, "fonts-cache")}</cachedir></fontconfig>\n`,
  );
  renameSync(staging, target); // in one step: an interrupted unpacking leaves no half browser behind
}
console.log(target);
