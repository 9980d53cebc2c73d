import { expect, test } from "bun:test";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { listen } from "../../src/net/listen.ts";
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
