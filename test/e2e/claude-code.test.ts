import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { access } from "node:fs/promises";
import type { RunEvent } from "../../src/protocol/run-events.ts";
import {
  docker,
  type Lab,
  payloadOf,
  receiptOf,
  seqsOf,
  startLab,
  upTo,
} from "../support/e2e-lab.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type RunningDeco, runDeco } from "../support/run-deco.ts";

const KEY = "sk-ant-the-laptops-own-key-0123456789";
const MARK = `made-${crypto.randomUUID()}`;

const skipped = isSkipped("Docker engine", await dockerAnswers());

const claude = (prompt: string) => ({
  harness: "claude-code",
  prompt,
  thread: "talk",
  sandbox: { provider: "docker" },
});

describe.skipIf(skipped)(
  "claude-code in a Docker sandbox, through hub, tunnel and control plane",
  () => {
    let model: ModelServer;
    let lab: Lab;
    let link: RunningDeco;
    let env: Record<string, string>;
    beforeAll(async () => {
      model = await startModelServer();
      lab = await startLab();
      env = { ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: KEY };
      link = await lab.link({ env });
    }, 60_000);
    afterAll(async () => {
      await lab?.[Symbol.asyncDispose]();
      await model?.[Symbol.asyncDispose]();
    });

    test("a turn of text: contiguous events, the answer, usage, and a receipt of the daemon's own", async () => {
      const events = await lab.run(claude("say Hello from afar."));
      const end = payloadOf(events, "run.completed");
      expect(seqsOf(events)).toEqual(upTo(events.length));
      expect(payloadOf(events, "assistant.message")).toMatchObject({ content: "Hello from afar." });
      expect(end).toMatchObject({
        output: "Hello from afar.",
        usage: { inputTokens: expect.any(Number), outputTokens: expect.any(Number) },
        receipt: {
          provider: "docker",
          processesLeft: 0,
          image: expect.stringContaining("deco-link/claude-code"),
        },
      });
      const { id } = receiptOf(events);
      const inspected = await docker("inspect", "--format", "{{.Id}}", id);
      expect(inspected.trim()).toBe(id);
    }, 240_000);

    test("a Bash call writes a file in /workspace: there in that sandbox, and not on the host", async () => {
      const prompt = `usetool: echo ${MARK} > /workspace/${MARK}.txt && cat /workspace/${MARK}.txt`;
      const events = await lab.run(claude(prompt));
      expect(payloadOf(events, "tool.call.started")).toMatchObject({ tool: "Bash" });
      expect(payloadOf(events, "tool.call.completed")).toMatchObject({
        output: expect.stringContaining(MARK),
      });
      const { id } = receiptOf(events);
      expect(await docker("exec", id, "cat", `/workspace/${MARK}.txt`)).toBe(`${MARK}\n`);
      expect(access(`/workspace/${MARK}.txt`)).rejects.toThrow();
    }, 60_000);

    test("a model that fails by HTTP 500 ends the run with code, leg, detail and fix", async () => {
      const events = await lab.run(claude("fail500"));
      expect(seqsOf(events)).toEqual(upTo(events.length));
      expect(payloadOf(events, "run.failed")).toMatchObject({
        code: "model_failed",
        leg: "harness",
        detail: expect.stringContaining("500"),
        fix: expect.stringMatching(/.+/),
      });
    }, 60_000);

    test("kill -9 of the daemon while the model talks: the agent asks again, with the same token", async () => {
      const events: RunEvent[] = [];
      let killed = false;
      for await (const event of lab.events(await lab.dispatch(claude("slow 30 100")))) {
        events.push(event);
        if (killed || event.type !== "assistant.message.delta") continue;
        killed = true;
        link.child.kill("SIGKILL");
        await link.ended;
        link = await lab.link({ env });
      }
      expect(killed).toBe(true);
      expect(seqsOf(events)).toEqual(upTo(events.length));
      // The CLI asks again without streaming, which the script answers by one word.
      expect(payloadOf(events, "run.completed")).toMatchObject({ exitCode: 0, output: "word" });
      const asked = model.requests.filter(({ body }) => body.includes("slow 30 100"));
      expect(asked.length).toBeGreaterThan(1);
    }, 60_000);

    test("a thread's sandbox stays until it is removed; then nothing is left behind", async () => {
      const { home } = lab;
      const { lines } = await runDeco(["sandbox", "ls", "--json"], { home });
      const { sandboxes } = JSON.parse(lines[0] ?? "");
      expect(sandboxes).toMatchObject([{ provider: "docker", status: "running" }]);
      const removed = await runDeco(["sandbox", "rm", sandboxes[0].handle], { home });
      expect(removed.code).toBe(0);
      link.child.kill("SIGTERM");
      expect((await link.ended).code).toBe(143);
      expect(await lab.leftBehind()).toEqual([]);
    }, 60_000);
  },
);
