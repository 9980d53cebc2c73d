/**
 * Bundles dist/cli.js and dist/harnessd.js for Node >= 20.19 and Bun. Packages stay outside, so that
 * `npm i deco-link` brings its own; lazy imports become chunks of their own, so that
 * `deco --version` loads none of them.
 */
import { chmod, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
await rm(dist, { recursive: true, force: true });

for (const [name, entry] of [
  ["cli", "src/cli.ts"],
  ["harnessd", "src/harnessd/main.ts"],
] as const) {
  const built = await Bun.build({
    entrypoints: [join(root, entry)],
    outdir: dist,
    naming: {
      entry: `${name}.js`,
      // Flat: code that looks for its neighbours (dist/harnessd.js) must find them from a chunk, too.
      chunk: `[name]-[hash].js`,
      asset: `[name]-[hash].[ext]`,
    },
    target: "node",
    packages: "external",
    splitting: name === "cli",
    sourcemap: "none",
  });
  if (!built.success) {
    for (const log of built.logs) console.error(log);
    process.exit(1);
  }
  const file = join(dist, `${name}.js`);
  const text = (await readFile(file, "utf8")).replace(/^#!.*\n/, "").replace(/^\/\/ @bun.*\n/, "");
  await writeFile(file, `#!/usr/bin/env node\n${text}`);
  await chmod(file, 0o755);
}
console.error("built dist/cli.js and dist/harnessd.js");
