import { execFile } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { httpRequest } from "../../src/net/http-request.ts";

const run = promisify(execFile);

/** The rival: `docker run` with a published port, until harnessd's first 200. @returns its id */
export async function dockerRun(image: string, signal: AbortSignal): Promise<string> {
  const flags = ["-d", "--pull", "never", "-p", "127.0.0.1::8080"];
  const open = ["-e", "HARNESS_ALLOW_UNAUTHENTICATED=1"];
  const { stdout } = await run("docker", ["run", ...flags, ...open, image], { signal });
  const id = stdout.trim();
  const port = await run("docker", ["port", id, "8080/tcp"], { signal });
  const url = `http://${port.stdout.trim().split("\n")[0]}/healthz`;
  for (;;) {
    const answer = await httpRequest({ url, signal }).catch(() => undefined);
    await answer?.bytes().catch(() => undefined);
    if (answer?.status === 200) return id;
    await delay(5, undefined, { signal });
  }
}

/** One command, as somebody would type it. */
export async function dockerRemove(ids: readonly string[], signal: AbortSignal): Promise<void> {
  await run("docker", ["rm", "-f", "-v", ...ids], { signal });
}
