import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { DecoError, type ErrorCode } from "../../src/protocol/errors.ts";
import type { DispatchRun } from "../../src/protocol/messages.ts";
import { MemoryProvider } from "../support/memory-provider.ts";
import { ExecutorHome, typesOf } from "./executor-home.ts";
import { thrownBy } from "./journal-home.ts";

let home: ExecutorHome;
const signal = new AbortController().signal;

beforeEach(() => {
  home = new ExecutorHome(new MemoryProvider());
});
afterEach(() => home[Symbol.asyncDispose]());

describe("a run from dispatch to its end", () => {
  test("is told step by step, and its receipt is the daemon's own look (LESSONS 25)", async () => {
    const state = home.run("replay:simple", { user: "ann", thread: "t1", branch: "main" });
    expect(state).toMatchObject({ runId: "run-1", attempt: 1, status: "queued" });
    const events = await home.end();
    expect(events.map((event) => event.seq)).toEqual(events.map((_, index) => index + 1));
    expect(typesOf(events).slice(0, 4)).toEqual([
      "run.started",
      "sandbox.provisioning",
      "sandbox.provisioning",
      "sandbox.ready",
    ]);
    const [started] = events;
    const promptSha256 = createHash("sha256").update("replay:simple").digest("hex");
    expect(started?.payload).toEqual({
      attempt: 1,
      harness: "shell",
      user: "ann",
      thread: "t1",
      branch: "main",
      promptSha256,
    });
    const { info } = [...home.provider.sandboxes.values()][0] ?? {};
    expect(events[3]?.payload).toMatchObject({
      handle: info?.handle,
      provider: "process",
      image: "memory:1",
      readyMs: 3,
      stages: { create: 1, start: 2 },
    });
    expect(info?.handle).toMatch(/^t-[0-9a-f]{16}$/);
    expect(events.at(-1)).toMatchObject({
      type: "run.completed",
      payload: {
        output: "Done: final answer.",
        receipt: {
          provider: "process",
          handle: info?.handle,
          id: info?.id,
          image: "memory:1",
          startedAt: info?.startedAt,
          confined: true,
          processesLeft: 0,
        },
      },
    });
    expect(home.journal.state("run-1")?.status).toBe("completed");
  });

  test("relays what the harness says raw, each event once (LESSONS 21)", async () => {
    home.run("replay:tool");
    const types = typesOf(await home.end());
    const [, ...said] = (await import("../support/memory-harness.ts")).readCapture("tool");
    const relayed = said
      .slice(0, -1)
      .map(({ type }) => (/^(run|sandbox)\./.test(type) ? `harness.${type}` : type));
    expect(types.slice(4, -1)).toEqual(relayed);
    const call = home.events().find((event) => event.type === "tool.call.started");
    expect(call?.payload).toMatchObject({ callId: "call_1", call_id: "call_1", tool: "bash" });
  });

  test("the harness gets the run's environment, options and model token; the sandbox does not", async () => {
    home.run("replay:simple", {
      sandbox: { env: { COLOUR: "red" }, resources: { pids: 64 } },
      options: { model: "m", maxSteps: 3, systemPrompt: "be brief", timeoutSeconds: 60 },
    });
    await home.end();
    const [run] = [...home.provider.harness().runs.values()];
    expect(run?.body).toEqual({
      prompt: "replay:simple",
      harness: "shell",
      client_run_id: "run-1.1",
      model: "m",
      max_steps: 3,
      system_prompt: "be brief",
      timeout_seconds: 60,
      env: { COLOUR: "red" },
      model_access: { token: "token-of-run-1" },
    });
    expect(home.provider.ensured[0]?.spec).toEqual({ resources: { pids: 64 } });
    expect(home.model.granted.size).toBe(0);
    expect(home.model.sockets).toHaveLength(1);
  });

  test("the daemon's names can't be said from inside, and usage is counted outside", async () => {
    home.model.requests = 2;
    const lies = [
      { type: "sandbox.ready", payload: { confined: true } },
      { type: "run.failed.really", payload: {} },
      { type: "bad type\n", payload: {} },
      { type: "artifact", payload: { blob: "x".repeat(1024 * 1024 + 1) } },
      { type: "run.completed", payload: { output: "o", usage: { inputTokens: 1 }, receipt: {} } },
    ];
    home.run(`events:${JSON.stringify(lies)}`);
    const events = await home.end();
    expect(typesOf(events).slice(4)).toEqual([
      "harness.sandbox.ready",
      "harness.run.failed.really",
      "harness.event",
      "log.gap",
      "run.completed",
    ]);
    expect(events.at(-1)?.payload).toMatchObject({
      usage: { inputTokens: 20, outputTokens: 2, requests: 2 },
      receipt: { provider: "process", processesLeft: 0 },
    });
  });

  test("a stream that breaks every few events loses and doubles nothing (LESSONS 14)", async () => {
    home.provider.dropAfter = 3;
    home.run("hang");
    await home.until("assistant.message.delta");
    const harness = home.provider.harness();
    for (let index = 0; index < 10; index++) harness.emit("tool.output.delta", { index });
    harness.emit("run.completed", { output: "" });
    const events = await home.end();
    const said = events.filter((event) => event.type === "tool.output.delta");
    expect(said.map((event) => event.payload["index"])).toEqual([...Array(10).keys()]);
    expect(events.at(-1)?.type).toBe("run.completed");
    expect(harness.streams).toBeGreaterThan(2);
  });

  test("thousands of events share commits and stay in order", async () => {
    home.run("flood:3000");
    const events = await home.end();
    const lines = events.filter((event) => event.type === "tool.output.delta");
    expect(lines.map((event) => event.payload["content"])).toEqual(
      Array.from({ length: 3000 }, (_, index) => `line ${index}\n`),
    );
    expect(events.at(-1)?.payload).toMatchObject({ output: "done", exitCode: 0 });
  });
});

describe("refusals, before anything is promised", () => {
  const refusals: [string, Partial<DispatchRun>, ErrorCode, number][] = [
    ["an unknown harness", { harness: "nonsense" }, "unknown_harness", 400],
    ["a harness of a later version", { harness: "codex" }, "capability_missing", 409],
    [
      "a provider that is not here",
      { sandbox: { provider: "virtualbox" } },
      "capability_missing",
      409,
    ],
    ["tier 1", { sandbox: { tier: 1 } }, "isolation_unavailable", 409],
    ["tier 3", { sandbox: { tier: 3 } }, "policy_denied", 409],
    ["tier 4", { sandbox: { tier: 4 } }, "policy_denied", 409],
    [
      "a workspace of the host",
      { sandbox: { workspace: { mode: "read_write", path: "/" } } },
      "policy_denied",
      409,
    ],
    ["an unknown template", { sandbox: { template: "big" } }, "capability_missing", 409],
    ["an unknown runtime", { sandbox: { runtime: "cobol" } }, "capability_missing", 409],
    [
      "a template without it",
      { sandbox: { template: "codex" }, harness: "claude-code" },
      "harness_missing",
      409,
    ],
    ["published ports of a process", { sandbox: { ports: [80] } }, "isolation_unavailable", 409],
    [
      "a thread's network without one",
      { sandbox: { network: { thread: true } } },
      "isolation_unavailable",
      409,
    ],
    ["an image for a process", { sandbox: { image: "x" } }, "isolation_unavailable", 409],
    ["a network for a process", { sandbox: { egress: "open" } }, "isolation_unavailable", 409],
  ];
  for (const [what, more, code, status] of refusals) {
    test(`${what} is ${code}, and nothing is in the ledger`, () => {
      const error = thrownBy(() => home.run("true", more));
      expect([error.code, error.info.status]).toEqual([code, status]);
      expect(home.journal.list()).toEqual([]);
      expect(home.provider.ensured).toEqual([]);
    });
  }

  test("tier 0 and unknown tiers are the standard one; an explicit workspace of none is fine", async () => {
    home.run("replay:simple", { sandbox: { tier: 0, workspace: { mode: "none" } } });
    expect((await home.end()).at(-1)?.type).toBe("run.completed");
  });

  test("no provider that works is told as the probe told it", async () => {
    const why = new DecoError("unconfined_refused", "nothing confines here");
    await home.restart({ defaultProvider: () => why });
    expect(thrownBy(() => home.run("true")).code).toBe(why.code);
    await home.restart({ checkProvider: () => why });
    expect(thrownBy(() => home.run("true")).code).toBe(why.code);
  });
});

describe("a waiting run", () => {
  test("goes on with its input, and input is refused when nothing waits", async () => {
    home.run("replay:askuser");
    await home.until("run.waiting_for_user");
    expect(home.journal.state("run-1")?.status).toBe("waiting");
    await home.executor.input("run-1", 1, "Blue", signal);
    const events = await home.end();
    expect(events.at(-1)?.type).toBe("run.completed");
    expect(home.provider.harness().decisions).toMatchObject([
      { verb: "input", body: { text: "Blue" } },
    ]);
    const late = home.executor.input("run-1", 1, "Red", signal);
    await expect(late).rejects.toMatchObject({ code: "run_not_waiting" });
    const unknown = home.executor.approve("nobody", 1, {}, signal);
    await expect(unknown).rejects.toMatchObject({ code: "run_not_found" });
  });

  test("goes on with an approval; deny carries its reason", async () => {
    home.run("replay:approved");
    await home.until("tool.approval_required");
    await home.executor.approve("run-1", 1, { callId: "call_1" }, signal);
    await home.end();
    home.run("replay:approved", { runId: "run-2" });
    await home.until("tool.approval_required", "run-2");
    await home.executor.deny("run-2", 1, { callId: "call_1", reason: "no" }, signal);
    await home.end("run-2");
    const said = [...home.provider.sandboxes.values()].flatMap(({ harness }) => harness.decisions);
    expect(said).toEqual([
      { verb: "approve", body: { call_id: "call_1" } },
      { verb: "deny", body: { call_id: "call_1", reason: "no" } },
    ]);
  });
});
