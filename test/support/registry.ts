import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { deferred } from "../../src/protocol/deferred.ts";

const run = promisify(execFile);

/** Debian's docker-registry on 127.0.0.1, which engines take without TLS; undefined without apt. */
export async function startRegistry(cacheDir: string) {
  const program = await ensureRegistry(cacheDir).catch(() => undefined);
  if (program === undefined) return undefined;
  const home = await mkdtemp(join(tmpdir(), "deco-reg-"));
  const config = join(home, "config.yml");
  const storage = `storage: {filesystem: {rootdirectory: ${join(home, "data")}}}`;
  await writeFile(config, `version: 0.1\n${storage}\nhttp: {addr: 127.0.0.1:0}\n`);
  const child = spawn(program, ["serve", config], { stdio: ["ignore", "ignore", "pipe"] });
  const port = await listening(child);
  return {
    address: `127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      const gone = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGKILL");
      await gone;
      await rm(home, { recursive: true, force: true });
    },
  };
}

async function listening(child: ChildProcess): Promise<string> {
  const port = deferred<string>();
  let text = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    text += chunk.toString();
    const found = /listening on 127\.0\.0\.1:(\d+)/.exec(text)?.[1];
    if (found !== undefined) port.resolve(found);
  });
  child.once("close", () => port.reject(new Error(`the registry ended: ${text}`)));
  return await port.promise;
}

async function ensureRegistry(cacheDir: string): Promise<string> {
  const home = join(cacheDir, "docker-registry");
  const program = join(home, "usr/bin/docker-registry");
  if (await stat(program).catch(() => undefined)) return program;
  await mkdir(home, { recursive: true });
  await run("apt-get", ["download", "docker-registry"], { cwd: home, timeout: 60_000 });
  const deb = (await readdir(home)).find((name) => name.endsWith(".deb")) ?? "";
  await run("dpkg-deb", ["-x", deb, "."], { cwd: home });
  return program;
}
