import { expect, test } from "bun:test";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { resolvePaths } from "../../src/daemon/paths.ts";
import { listen } from "../../src/net/listen.ts";
import { sseResponse } from "../../src/net/sse-write.ts";
import { encodeSse } from "../../src/protocol/sse.ts";
import { builtCli } from "../support/built-cli.ts";

const EVENTS = 3000;

/** The far side: a run that ended, with a log larger than any pipe. */
function hub(request: Request): Response {
  if (!new URL(request.url).pathname.endsWith("/events"))
    return Response.json({ runId: "r", status: "completed", lastSeq: EVENTS });
  const frames = Array.from({ length: EVENTS }, (_, index) => {
    const seq = index + 1;
    const type = seq === EVENTS ? "run.completed" : "tool.output.delta";
    const payload = { content: "x".repeat(200), output: "" };
    const event = { seq, runId: "r", type, at: "2026-01-01T00:00:00.000Z", payload };
    return encodeSse({ id: String(seq), event: type, data: JSON.stringify(event) });
  });
  return new Response(frames.join(""), { headers: { "content-type": "text/event-stream" } });
}

test("a reader of stdout that dawdles gets everything, on Bun and on Node", async () => {
  const home = await mkdtemp(join(tmpdir(), "deco-slow-"));
  await using server = await listen({ fetch: hub }, { port: 0 });
  const source = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));
  try {
    for (const program of [
      [process.execPath, source],
      ["node", await builtCli()],
    ]) {
      const line = '"$0" "$@" | { sleep 1; wc -l; }';
      const args = ["-c", line, ...program, "runs", "logs", "r", "--json"];
      const { stdout } = await promisify(execFile)("sh", args, {
        env: {
          PATH: process.env["PATH"] ?? "",
          DECO_HOME: home,
          DECO_HUB: server.url,
          DECO_TOKEN: "t",
        },
      });
      expect(Number(stdout)).toBe(EVENTS);
    }
  } finally {
    await rm(home, { recursive: true });
  }
}, 60_000);

const MIB = 2 ** 20;
/** What pipes, sockets and streams on the way may hold. */
const HELD_AT_MOST = 32 * MIB;

test.each(["bun", "node"])(
  "a program in a sandbox that writes without end is held by who does not read, on %s",
  async (runtime) => {
    const home = await mkdtemp(join(tmpdir(), "deco-held-"));
    const sent = { bytes: 0 };
    async function* endless() {
      for (;;) {
        sent.bytes += MIB / 16;
        const content = "x".repeat(MIB / 16);
        yield { event: "output", data: JSON.stringify({ stream: "stdout", content }) };
        // As a real daemon, which waits for its engine.
        await delay(0);
      }
    }
    const { controlSocket: socketPath } = resolvePaths({ env: { DECO_HOME: home } });
    await mkdir(join(socketPath, ".."), { recursive: true, mode: 0o700 });
    const fetch = ({ signal }: Request) => sseResponse({ signal, events: endless() });
    await using daemon = await listen({ fetch }, { socketPath });
    const source = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));
    const program: [string, string] =
      runtime === "node" ? ["node", await builtCli()] : [process.execPath, source];
    const args = [program[1], "sandbox", "exec", "h", "--", "yes"];
    const child = spawn(program[0], args, {
      env: { PATH: process.env["PATH"] ?? "", DECO_HOME: home },
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await once(child.stdout, "readable");
      let before = -1;
      while (sent.bytes !== before && sent.bytes <= HELD_AT_MOST) {
        before = sent.bytes;
        await delay(1000);
      }
      expect(sent.bytes).toBeLessThanOrEqual(HELD_AT_MOST);
      expect(daemon.server.listening).toBe(true);
    } finally {
      child.kill("SIGKILL");
      await once(child, "close");
      await rm(home, { recursive: true });
    }
  },
  60_000,
);
