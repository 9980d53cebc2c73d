import { afterAll, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DecoError } from "../../src/protocol/errors.ts";
import { ensureNpmFiles } from "../../src/sandbox/images/npm-package.ts";

const home = await mkdtemp(join(tmpdir(), "deco-npm-"));
const before = { ...process.env };
afterAll(async () => {
  Object.assign(process.env, before);
  for (const name of ["npm_config_registry", "npm_config_cache", "npm_config_fetch_retries"]) {
    if (before[name] === undefined) Reflect.deleteProperty(process.env, name);
  }
  await rm(home, { recursive: true });
});

test("a package whose bytes are not what the registry says is refused, and nothing is kept", async () => {
  const server = createServer((request, response) => {
    if (request.url?.endsWith(".tgz")) {
      response.end("other bytes");
      return;
    }
    const dist = {
      tarball: `http://${request.headers.host}/deco-probe.tgz`,
      integrity: `sha512-${Buffer.alloc(64, 1).toString("base64")}`,
    };
    const versions = { "1.0.0": { name: "deco-probe", version: "1.0.0", dist } };
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({ name: "deco-probe", "dist-tags": { latest: "1.0.0" }, versions }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  process.env["npm_config_registry"] = `http://127.0.0.1:${port}/`;
  process.env["npm_config_cache"] = join(home, "npm-cache");
  process.env["npm_config_fetch_retries"] = "0";
  const wanted = { name: "deco-probe", version: "1.0.0", files: ["bin/probe"] } as const;
  const cacheDir = join(home, "cache");
  try {
    const work = ensureNpmFiles(wanted, cacheDir, AbortSignal.timeout(60_000));
    const error = DecoError.from(await work.catch((thrown: unknown) => thrown));
    expect(error.code).toBe("image_missing");
    expect(error.fix).toContain("npm pack deco-probe@1.0.0");
    expect(await readdir(join(cacheDir, "npm"))).toEqual([]);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}, 60_000);
