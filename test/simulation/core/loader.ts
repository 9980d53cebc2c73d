import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { plugin } from "bun";

const ROOT = resolve(import.meta.dir, "../../..");
const SHIMS = resolve(import.meta.dir, "../shims");

/** Specifier of an import in src, and what stands for it here. */
const REDIRECTS: readonly (readonly [RegExp, string])[] = [
  [/"node:timers\/promises"/g, "timers-promises.ts"],
  [/"node:crypto"/g, "crypto.ts"],
  [/"node:fs\/promises"/g, "fs-promises.ts"],
  [/"(?:\.\.?\/)+(?:storage\/)?open-db\.ts"/g, "open-db.ts"],
  [/"(?:\.\.?\/)+net\/http-request\.ts"/g, "http-request.ts"],
  [/"(?:\.\.?\/)+net\/tunnel-dial\.ts"/g, "tunnel-dial.ts"],
  [/"(?:\.\.?\/)+net\/tunnel-accept\.ts"/g, "tunnel-accept.ts"],
  [/"(?:\.\.?\/)+protocol\/signature\.ts"/g, "signature.ts"],
];

/**
 * Loads the product's own source files with the outermost modules (sockets, disk, timers, chance)
 * replaced. Nothing else about them changes, and they know nothing of it.
 */
export function redirectImports(): void {
  plugin({
    name: "simulated outside world",
    setup(build) {
      build.onLoad({ filter: new RegExp(`^${ROOT}/src/.*\\.ts$`) }, ({ path }) => {
        let contents = readFileSync(path, "utf8");
        if (path.includes("/src/storage/")) return { contents, loader: "ts" };
        for (const [specifier, shim] of REDIRECTS) {
          contents = contents.replace(specifier, () => JSON.stringify(join(SHIMS, shim)));
        }
        return { contents, loader: "ts" };
      });
    },
  });
}
