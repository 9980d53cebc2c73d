import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { httpRequest } from "../../../src/net/http-request.ts";
import { canOwnEngine, type OwnEngine, ownEngine } from "../../support/e2e-engine.ts";
import { isEnd, type Lab, outputOf, seqsOf, startLab, upTo } from "../../support/e2e-lab.ts";
import { isSoak, report, summary } from "../../support/fault-chance.ts";
import { expectLogged, printedLogs } from "../../support/fault-logs.ts";
import { RunReader } from "../../support/fault-reader.ts";
import { counting, firstDifference, numbered } from "../../support/fault-text.ts";
import { isSuiteSkipped } from "../../support/net-namespace.ts";

/** A run that is to survive is short; one that dies with its container must not end before. */
const linesOf = (survives: boolean) => (survives ? (isSoak ? 10_000 : 400) : 100_000);
const LIMIT_MS = isSoak ? 600_000 : 120_000;
const SANDBOX = { provider: "docker", egress: "none" };
const why = canOwnEngine ? undefined : "no dockerd that this user may start";
const fix = "run as root, and: npm run engines";

for (const liveRestore of [true, false]) {
  const lines = linesOf(liveRestore);
  const kept = liveRestore ? "keeps its containers" : "ends its containers";
  describe.skipIf(isSuiteSkipped("engine-restart", why, fix))(`an engine that ${kept}`, () => {
    let engine: OwnEngine;
    let lab: Lab;
    let witness: { readonly runId: string; readonly logs: string };
    const from = () => ({ home: lab.home, url: lab.hub.url, token: lab.token });

    beforeAll(async () => {
      engine = await ownEngine({ liveRestore });
      lab = await startLab();
      const docker = ["--docker-host", engine.host, "--local-sandbox-provider", "docker"];
      await lab.link({ args: docker });
      const prompt = counting(20, 20, 0);
      const runId = await lab.dispatch({ harness: "shell", prompt, sandbox: SANDBOX });
      await new RunReader({ url: () => lab.hub.url, token: lab.token, runId }).ended;
      witness = { runId, logs: await printedLogs(from(), runId) };
    }, 90_000);
    afterAll(async () => {
      await lab?.[Symbol.asyncDispose]();
      await engine?.[Symbol.asyncDispose]();
    }, 60_000);

    const start = async () => {
      const prompt = counting(lines, 1, 0.001);
      const runId = await lab.dispatch({ harness: "shell", prompt, sandbox: SANDBOX });
      return new RunReader({ url: () => lab.hub.url, token: lab.token, runId, limitMs: LIMIT_MS });
    };
    /** Milliseconds of the slowest answer of the daemon while something happens. */
    const slowestAnswer = async (happening: Promise<unknown>) => {
      const over = new AbortController();
      const ended = happening.finally(() => over.abort());
      ended.catch(() => undefined);
      let slowest = 0;
      while (!over.signal.aborted) {
        for (const path of ["/healthz", "/v1/status"]) {
          const { controlSocket: socketPath } = lab.paths;
          const askedAt = performance.now();
          const answer = await httpRequest({ socketPath, path, signal: AbortSignal.timeout(5000) });
          expect(answer.status).toBe(200);
          await answer.text();
          slowest = Math.max(slowest, performance.now() - askedAt);
        }
      }
      await ended;
      return slowest;
    };

    for (const way of ["stop", "kill"] as const) {
      test(
        `${way === "stop" ? "restarted" : "killed and started"} in mid-run: the run ends right, nothing before is lost`,
        async () => {
          const reader = await start();
          await reader.until(() => reader.lines >= 100);
          const faultAt = performance.now();
          const fault = engine[way]().then(() => engine.start());
          const slowest = await slowestAnswer(fault);
          const downMs = Math.round(performance.now() - faultAt);
          const seen = reader.output.length;
          await reader.ended;
          const { events, output } = reader;
          expect(seqsOf(events)).toEqual(upTo(events.length));
          expect(events.filter(isEnd)).toHaveLength(1);
          expect(output.length).toBeGreaterThanOrEqual(seen);
          await expectLogged(from(), reader);
          const end = reader.last;
          const promise = `dockerd ${way === "stop" ? "restarted" : "killed"}, ${kept}: ${end?.type}`;
          const more = { awayMs: downMs, slowestAnswerMs: Math.round(slowest) };
          summary({ promise, provider: "docker", faults: 1, events: events.length, more });
          report(
            `engine ${way}, ${kept}: away ${downMs} ms, slowest answer of the daemon ${Math.round(slowest)} ms, ${end?.type} behind ${reader.lines} lines`,
          );
          if (liveRestore) {
            expect(firstDifference(output, numbered(lines))).toBeUndefined();
            expect(end).toMatchObject({ type: "run.completed" });
          } else {
            expect(numbered(lines).startsWith(output)).toBe(true);
            expect(end).toMatchObject({
              type: "run.failed",
              payload: {
                code: expect.stringMatching(/^(sandbox_lost|harness_unreachable)$/),
                leg: expect.stringMatching(/^(sandbox|harness)$/),
                detail: expect.stringMatching(/./),
                fix: expect.stringMatching(/./),
              },
            });
          }
          expect(slowest).toBeLessThan(2000);
        },
        LIMIT_MS,
      );

      test(
        "and a new run works, with no word to the daemon",
        async () => {
          const events = await lab.run({ harness: "shell", prompt: "echo made", sandbox: SANDBOX });
          expect(events.at(-1)).toMatchObject({ type: "run.completed" });
          expect(outputOf(events)).toBe("made\n");
        },
        LIMIT_MS,
      );
    }

    test(
      "an engine that is away destroys nothing: the sandbox is the same one afterwards",
      async () => {
        const ids = async () => (await engine.docker("ps", "-q", "--no-trunc")).trim();
        const run = { harness: "shell", prompt: "echo kept > /workspace/kept", sandbox: SANDBOX };
        const thread = { thread: "kept" };
        await lab.run({ ...run, ...thread });
        const before = await ids();
        expect(before).not.toBe("");
        await engine.kill();
        const { controlSocket: socketPath } = lab.paths;
        const signal = AbortSignal.timeout(20_000);
        const answer = await httpRequest({ socketPath, path: "/v1/sandboxes", signal });
        expect(await answer.text()).toMatch(/"unknown"/);
        await engine.start();
        if (liveRestore) expect(await ids()).toBe(before);
        const events = await lab.run({ ...run, ...thread, prompt: "cat /workspace/kept" });
        expect(outputOf(events)).toBe("kept\n");
      },
      LIMIT_MS,
    );

    test("`deco runs logs` of a run from before all of that: the same bytes", async () => {
      expect(await printedLogs(from(), witness.runId)).toBe(witness.logs);
    }, 30_000);
  });
}
