import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { RunEvent } from "../../src/protocol/run-events.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";
import { leftovers, type Snapshot, takeSnapshot } from "../support/leftovers.ts";
import { type DecoResult, runDeco } from "../support/run-deco.ts";

const Summary = z.strictObject({
  ok: z.literal(true),
  runId: z.string().min(1),
  provider: z.string(),
  status: z.literal("completed"),
  timings: z.record(z.string(), z.number().min(0)),
  events: z.int().min(3),
});

const hasDocker = await dockerAnswers();

for (const provider of ["docker", "process"] as const) {
  const skipped = provider === "docker" && isSkipped("Docker engine", hasDocker);
  for (const runtime of ["bun", "node"] as const) {
    describe.skipIf(skipped)(`deco up --once --json with ${provider}, on ${runtime}`, () => {
      let home: string;
      let before: Snapshot;
      let result: DecoResult;

      beforeAll(async () => {
        home = await mkdtemp(join(tmpdir(), "deco-once-"));
        before = await takeSnapshot(home);
        const args = ["up", "--once", "--json", "--provider", provider];
        result = await runDeco(args, { runtime, home });
      }, 120_000);
      afterAll(() => rm(home, { recursive: true, force: true }));

      test("ends with 0, and its last line is the summary, with these fields alone", () => {
        expect({ code: result.code, stderr: result.code === 0 ? "" : result.stderr }).toEqual({
          code: 0,
          stderr: "",
        });
        const summary = Summary.parse(JSON.parse(result.lines.at(-1) ?? ""));
        expect(summary.provider).toBe(provider);
        expect(summary.events).toBe(result.lines.length - 1);
      });

      test("prints every event once, numbered from 1 without a gap, the terminal one last", () => {
        const events = result.lines.slice(0, -1).map((line) => RunEvent.parse(JSON.parse(line)));
        expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
        expect(new Set(events.map(({ runId }) => runId)).size).toBe(1);
        expect(events.at(-1)?.type).toBe("run.completed");
        expect(events.filter(({ type }) => type.startsWith("run.comp"))).toHaveLength(1);
        expect(events.at(-1)?.payload["receipt"]).toMatchObject({ provider });
      });

      test("the default prompt proves where it ran: not on this host, and a file in /workspace", () => {
        const output = result.lines
          .slice(0, -1)
          .map((line) => RunEvent.parse(JSON.parse(line)))
          .filter(({ type }) => type === "tool.output.delta")
          .map(({ payload }) => String(payload["content"]))
          .join("");
        expect(output).toMatch(/^kernel: Linux /m);
        expect(output).toMatch(/^host: .+$/m);
        expect(output).toMatch(/^user: uid=[1-9]/m);
        const [, host] = /^proof: written in (\S+) by uid [1-9]\d*$/m.exec(output) ?? [];
        expect(output).toContain(`host: ${host}\n`);
      });

      test("nothing is left behind: no process, container, volume, socket or file outside", async () => {
        expect(await leftovers(home, before)).toEqual([]);
      });
    });
  }
}
