// node bundle.mjs ENTRY: writes one file for a browser to stdout.
import { build } from "esbuild";

const { outputFiles } = await build({
  entryPoints: [process.argv[2]],
  bundle: true,
  format: "esm",
  define: { "process.env.NODE_ENV": '"development"' }, // React's StrictMode does its checks only then
  logLevel: "error",
  write: false,
});
process.stdout.write(outputFiles[0].text);
