import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { RunEvent } from "../../src/protocol/run-events.ts";
import {
  docker,
  isEnd,
  type Lab,
  outputOf,
  payloadOf,
  receiptOf,
  seqsOf,
  startLab,
  upTo,
} from "../support/e2e-lab.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";
import { call } from "../support/hub-call.ts";
import type { RunningDeco } from "../support/run-deco.ts";

const hasDocker = await dockerAnswers();
const LINES = 40;
const counting = `i=1; while [ $i -le ${LINES} ]; do echo line $i; i=$((i+1)); sleep 0.1; done`;
const counted = upTo(LINES)
  .map((line) => `line ${line}\n`)
  .join("");

/** Forks twice, so that init is its parent, in a session of its own, deaf to SIGTERM. */
const daemonised = `trap '' TERM
for n in 1 2 3; do (setsid sh -c 'trap "" TERM HUP INT; echo hidden; while :; do sleep 1; done' &) ; done
while :; do sleep 1; done`;

const shell = (provider: string, prompt: string) => ({
  harness: "shell",
  prompt,
  sandbox: { provider },
});

const KINDS = [
  ["docker", "bun"],
  ["process", "bun"],
  ["docker", "node"],
] as const;

/** A container, or the first process of a confined one (`pid.startTime`). */
async function killSandbox(provider: string, id: string): Promise<void> {
  if (provider === "docker") await docker("kill", id);
  else process.kill(Number(id.split(".")[0]), "SIGKILL");
}

for (const [provider, runtime] of KINDS) {
  const skipped = provider === "docker" && isSkipped("Docker engine", hasDocker);
  describe.skipIf(skipped)(
    `runs in ${provider} outlive what becomes of a daemon on ${runtime}`,
    () => {
      let lab: Lab;
      let link: RunningDeco;
      const start = () => lab.link({ runtime, args: ["--local-sandbox-provider", provider] });
      const watch = async (
        runId: string,
        onEvent: (event: RunEvent, events: readonly RunEvent[]) => Promise<void>,
      ): Promise<RunEvent[]> => {
        const events: RunEvent[] = [];
        for await (const event of lab.events(runId)) {
          events.push(event);
          await onEvent(event, events);
        }
        return events;
      };

      const cancel = (runId: string) => {
        const path = `/api/runs/${runId}/cancel`;
        return call(lab.hub.url, { method: "POST", path, token: lab.token, body: {} });
      };

      beforeAll(async () => {
        lab = await startLab({ heartbeatIntervalMs: 500 });
        link = await start();
      }, 90_000);
      afterAll(() => lab?.[Symbol.asyncDispose](), 30_000);

      test("kill -9 in mid-run, and once more until the run is over: it ends with every line once", async () => {
        const runId = await lab.dispatch(shell(provider, counting));
        let kills = 0;
        const events = await watch(runId, async (_event, so) => {
          if (kills >= 2 || !outputOf(so).includes(`line ${5 + kills * 10}\n`)) return;
          kills += 1;
          link.child.kill("SIGKILL");
          await link.ended;
          // The second time the run ends while nobody is there.
          if (kills === 2) await new Promise((resolve) => setTimeout(resolve, 3500));
          link = await start();
        });
        expect(kills).toBe(2);
        expect(seqsOf(events)).toEqual(upTo(events.length));
        expect(outputOf(events)).toBe(counted);
        expect(events.filter(isEnd)).toHaveLength(1);
        expect(payloadOf(events, "run.completed")).toMatchObject({ exitCode: 0 });
        expect(receiptOf(events)).toMatchObject({ provider, processesLeft: 0 });
      }, 60_000);

      test("a cancel ends children that forked twice and ignore SIGTERM, within 2 s (LESSONS 18)", async () => {
        const runId = await lab.dispatch(shell(provider, daemonised));
        let cancelledAt = 0;
        const events = await watch(runId, async (_event, so) => {
          if (cancelledAt > 0 || outputOf(so).split("hidden").length < 4) return;
          cancelledAt = performance.now();
          expect((await cancel(runId)).status).toBe(202);
        });
        const tookMs = performance.now() - cancelledAt;
        expect(events.at(-1)).toMatchObject({
          type: "run.cancelled",
          payload: { processesLeft: 0 },
        });
        expect(tookMs).toBeLessThan(2000);
      }, 60_000);

      test("cancelled while the daemon is dead: the next one ends it, and proves that nothing is left", async () => {
        const runId = await lab.dispatch(shell(provider, "echo here; sleep 600"));
        let done = false;
        const events = await watch(runId, async (_event, so) => {
          if (done || outputOf(so) !== "here\n") return;
          done = true;
          link.child.kill("SIGKILL");
          await link.ended;
          expect((await cancel(runId)).status).toBe(202);
          link = await start();
        });
        expect(events.at(-1)).toMatchObject({
          type: "run.cancelled",
          payload: { processesLeft: 0 },
        });
        expect(seqsOf(events)).toEqual(upTo(events.length));
      }, 60_000);

      test("a sandbox that is killed under its run fails it, typed, with leg and fix", async () => {
        for (const away of [false, true]) {
          const runId = await lab.dispatch(shell(provider, "echo here; sleep 600"));
          let done = false;
          const events = await watch(runId, async (_event, so) => {
            if (done || outputOf(so) !== "here\n") return;
            done = true;
            if (away) link.child.kill("SIGKILL");
            if (away) await link.ended;
            await killSandbox(provider, String(payloadOf(so, "sandbox.ready")["id"]));
            if (away) link = await start();
          });
          expect(payloadOf(events, "run.failed")).toMatchObject({
            code: "sandbox_lost",
            leg: "sandbox",
            detail: expect.stringMatching(/./),
            fix: expect.stringMatching(/./),
          });
          expect(events.filter(isEnd)).toHaveLength(1);
        }
      }, 60_000);

      test("nothing is left behind once the daemon drained", async () => {
        link.child.kill("SIGTERM");
        await link.ended;
        expect(await lab.leftBehind()).toEqual([]);
      }, 60_000);
    },
  );
}
