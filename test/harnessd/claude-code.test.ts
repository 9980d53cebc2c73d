import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ensureClaude } from "../../src/sandbox/images/claude-binary.ts";
import { hostTarget } from "../../src/sandbox/images/target.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { startHarnessd, type TestHarnessd } from "./harnessd-process.ts";

// The real CLI, run by the real harnessd; its model is the scripted server behind a unix socket.
let model: ModelServer;
let harnessd: TestHarnessd;
let sockets: string;

beforeAll(async () => {
  const cache = join(import.meta.dirname, "../../.cache");
  const program = dirname(await ensureClaude(cache, hostTarget(), AbortSignal.timeout(170_000)));
  sockets = await mkdtemp(join(tmpdir(), "model-"));
  const socketPath = join(sockets, "model.sock");
  model = await startModelServer({ socketPath });
  harnessd = await startHarnessd({
    env: {
      PATH: `${program}:${process.env["PATH"]}`,
      HARNESS_MODEL_URL: socketPath,
    },
  });
}, 180_000);

afterAll(async () => {
  await harnessd[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
  await rm(sockets, { recursive: true, force: true });
});

function claudeRun(prompt: string, more: Record<string, unknown> = {}) {
  const access = { model_access: { token: "run-token-1" }, timeout_seconds: 60 };
  return harnessd.createRun({ harness: "claude-code", prompt, ...access, ...more });
}

test("a text turn of the real CLI becomes deltas, a message, usage and the run's output", async () => {
  const events = await harnessd.events(await claudeRun("say Hello, skeleton."));
  const deltas = events.filter((event) => event.type === "assistant.message.delta");
  expect(deltas.map((event) => event.payload["content"]).join("")).toBe("Hello, skeleton.");
  const message = events.find((event) => event.type === "assistant.message");
  expect(message?.payload["content"]).toBe("Hello, skeleton.");
  const usage = events.find((event) => event.type === "usage");
  expect(usage?.payload).toMatchObject({ inputTokens: 10, outputTokens: 5 });
  expect(events.at(-1)).toMatchObject({
    type: "run.completed",
    payload: { output: "Hello, skeleton.", exitCode: 0 },
  });
});

test("a Bash call of the real CLI runs unattended in the workspace and is told with its output", async () => {
  const events = await harnessd.events(
    await claudeRun("usetool: echo made > made.txt && cat made.txt"),
  );
  const started = events.find((event) => event.type === "tool.call.started");
  expect(started?.payload).toMatchObject({
    tool: "Bash",
    arguments: { command: "echo made > made.txt && cat made.txt" },
  });
  const ended = events.find((event) => event.type === "tool.call.completed");
  expect(ended?.payload).toMatchObject({ callId: started?.payload["callId"], output: "made" });
  expect(ended?.payload["error"]).toBeUndefined();
  expect(events.at(-1)).toMatchObject({
    type: "run.completed",
    payload: { output: "Tool said: made" },
  });
  expect(await readFile(join(harnessd.workspace, "made.txt"), "utf8")).toBe("made\n");
});

test("the model sees the run's own token and nothing of harnessd's", () => {
  const turns = model.requests.filter((request) => request.method === "POST");
  expect(turns.length).toBeGreaterThan(2);
  const keys = turns.map((request) => request.headers["x-api-key"]);
  expect(new Set(keys)).toEqual(new Set(["run-token-1"]));
  expect(JSON.stringify(model.requests)).not.toContain("test-token");
});

test("model, system prompt and the most steps reach the CLI, system prompts of any length", async () => {
  const system = `You are terse. ${"x".repeat(200_000)}`;
  const more = { model: "claude-test-9", system_prompt: system, max_steps: 1 };
  const events = await harnessd.events(await claudeRun("usetool: true", more));
  const body = model.requests.at(-1)?.body ?? "";
  expect(body).toContain("You are terse.");
  expect(body).toContain('"model":"claude-test-9"');
  expect(events.at(-1)).toMatchObject({ type: "run.failed", payload: { code: "budget_exceeded" } });
});

test("HTTP 500 from the model ends the run as model_failed with the status", async () => {
  const env = { CLAUDE_CODE_MAX_RETRIES: "0" };
  const events = await harnessd.events(await claudeRun("fail500", { env }));
  expect(events.at(-1)).toMatchObject({
    type: "run.failed",
    payload: { code: "model_failed", leg: "harness", status: 500 },
  });
  expect(String(events.at(-1)?.payload["detail"])).toContain("500");
});

test("thinking of the model is told apart from its answer", async () => {
  const events = await harnessd.events(await claudeRun("think"));
  const thoughts = events.filter((event) => event.type === "assistant.thinking.delta");
  expect(thoughts.map((event) => event.payload["content"]).join("")).toBe("Let me see.");
  expect(events.at(-1)?.payload["output"]).toBe("I thought.");
});

test("a cancel in the middle of an answer ends the CLI and leaves no process", async () => {
  const id = await claudeRun("slow 500 50");
  await harnessd.until(id, (event) => event.type === "assistant.message.delta");
  expect((await harnessd.call("POST", `/v1/runs/${id}/cancel`)).body).toEqual({
    status: "cancelling",
  });
  const events = await harnessd.events(id);
  expect(events.at(-1)).toMatchObject({ type: "run.cancelled", payload: { processesLeft: 0 } });
});

test("a run without model access fails before the CLI starts", async () => {
  const id = await harnessd.createRun({ harness: "claude-code", prompt: "hi" });
  expect((await harnessd.events(id)).at(-1)).toMatchObject({
    type: "run.failed",
    payload: { code: "model_unconfigured" },
  });
});

test("the harnesses of this machine are listed with their versions", async () => {
  const { body } = await harnessd.call("GET", "/v1/harnesses");
  expect(body).toMatchObject({
    harnesses: [
      { name: "shell", available: true },
      { name: "claude-code", available: true, version: "2.1.197" },
    ],
  });
});
