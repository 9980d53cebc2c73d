import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readFile, stat, writeFile } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { join } from "node:path";
import { z } from "zod";
import { frames, readText, startHarnessd, type TestHarnessd, TOKEN } from "./harnessd-process.ts";

let harnessd: TestHarnessd;

beforeAll(async () => {
  harnessd = await startHarnessd();
});
afterAll(() => harnessd[Symbol.asyncDispose]());

async function shell(prompt: string, more: Record<string, unknown> = {}) {
  return await harnessd.events(await harnessd.createRun({ prompt, ...more }));
}

function output(events: Awaited<ReturnType<typeof shell>>, stream: "stdout" | "stderr"): string {
  const pieces = events.filter(
    (event) => event.type === "tool.output.delta" && event.payload["stream"] === stream,
  );
  return pieces.map((event) => event.payload["content"]).join("");
}

test("a command's output, exit code and end arrive as one log numbered from 0", async () => {
  const events = await shell("echo out; echo err >&2");
  expect(output(events, "stdout")).toBe("out\n");
  expect(output(events, "stderr")).toBe("err\n");
  expect(events.map((event) => event.id)).toEqual(
    events.map((event, seq) => `${event.run_id}:${seq}`),
  );
  expect(events[0]?.type).toBe("run.started");
  expect(events.find((event) => event.type === "tool.call.completed")?.payload).toMatchObject({
    tool: "shell",
    exitCode: 0,
  });
  expect(events.at(-1)).toMatchObject({ type: "run.completed", payload: { exitCode: 0 } });
});

test("an exit code other than 0 fails the run and is told", async () => {
  const events = await shell("echo before; exit 3");
  expect(events.at(-1)).toMatchObject({
    type: "run.failed",
    payload: { code: "harness_failed", leg: "harness", detail: "exit code 3", exitCode: 3 },
  });
});

test("a command that a signal ends counts as 128 and its number", async () => {
  expect((await shell("kill -9 $$")).at(-1)?.payload).toMatchObject({ exitCode: 137 });
});

test("a command longer than an argument may be runs all the same", async () => {
  const events = await shell(`${":\n".repeat(500_000)}echo the end`);
  expect(events.at(-1)?.payload).toMatchObject({ output: "the end\n", exitCode: 0 });
});

test("output can be opened by name, as scripts do with /dev/stderr", async () => {
  const events = await shell("echo a >/dev/stderr; echo b | tee /dev/stdout");
  expect(output(events, "stderr")).toBe("a\n");
  expect(output(events, "stdout")).toBe("b\nb\n");
});

test("characters torn between two writes are put together, bytes that are no text are replaced", async () => {
  const events = await shell("printf '\\303'; sleep 0.1; printf '\\251'; printf '\\377'");
  expect(output(events, "stdout")).toBe("é\uFFFD");
});

test("the command starts in the workspace with the run's environment and nothing of harnessd's", async () => {
  const events = await shell("pwd; env", { env: { GREETING: "hello there" } });
  const text = output(events, "stdout");
  expect(text).toStartWith(`${harnessd.workspace}\n`);
  expect(text).toContain("GREETING=hello there\n");
  expect(text).not.toContain("HARNESS_TOKEN_FILE");
  expect(text).not.toContain("HARNESS_DATA");
  expect(text).not.toContain(TOKEN);
});

test("a server left in the background with the command's pipes does not hold the run up, nor dies of its end", async () => {
  const loop = "while [ ! -e stop ]; do echo tick; echo alive > alive; sleep 0.05; done";
  const events = await shell(`(${loop}; echo done > done) & echo started`);
  expect(events.at(-1)).toMatchObject({ type: "run.completed", payload: { exitCode: 0 } });
  await writeFile(join(harnessd.workspace, "stop"), "");
  await untilExists(join(harnessd.workspace, "done"));
});

test("a cancel ends the command, its children and a daemon of its own session", async () => {
  const id = await harnessd.createRun({
    prompt:
      "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$ > daemon; while :; do sleep 0.1; done' &); echo up; while :; do sleep 0.1; done",
  });
  await harnessd.until(id, (event) => event.payload["content"] === "up\n");
  await untilExists(join(harnessd.workspace, "daemon"));
  const answer = await harnessd.call("POST", `/v1/runs/${id}/cancel`);
  expect(answer).toEqual({ status: 200, body: { status: "cancelling" } });
  const last = (await harnessd.events(id)).at(-1);
  expect(last).toMatchObject({ type: "run.cancelled", payload: { processesLeft: 0 } });
  const daemon = (await readFile(join(harnessd.workspace, "daemon"), "utf8")).trim();
  expect(existsSync(`/proc/${daemon}/cwd`)).toBe(false);
  const again = await harnessd.call("POST", `/v1/runs/${id}/cancel`);
  expect(again).toEqual({ status: 200, body: { status: "cancelled" } });
});

test("a cancel ends no other run's processes", async () => {
  const [kept, ended] = await Promise.all([
    harnessd.createRun({ prompt: "echo up; sleep 0.5; echo survived" }),
    harnessd.createRun({ prompt: "echo up; sleep 60" }),
  ]);
  await harnessd.until(ended, (event) => event.type === "tool.output.delta");
  await harnessd.call("POST", `/v1/runs/${ended}/cancel`);
  const events = await harnessd.events(kept);
  expect(events.at(-1)).toMatchObject({
    type: "run.completed",
    payload: { output: "up\nsurvived\n" },
  });
});

test("a run over its time limit fails with budget_exceeded and leaves nothing behind", async () => {
  const events = await shell("sleep 60", { timeout_seconds: 0.2 });
  expect(events.at(-1)).toMatchObject({
    type: "run.failed",
    payload: { code: "budget_exceeded", processesLeft: 0 },
  });
});

test("a stream resumes behind the last event that the reader has", async () => {
  const id = await harnessd.createRun({ prompt: "echo one; sleep 0.2; echo two" });
  const all = await harnessd.events(id);
  const last = all.at(-1)?.id ?? "";
  expect(await harnessd.events(id, { "last-event-id": `${id}:2` })).toEqual(all.slice(3));
  const query = await harnessd.open(`/v1/runs/${id}/events?after=2`);
  const byQuery = [];
  for await (const frame of frames(query)) byQuery.push(frame);
  expect(byQuery).toEqual(all.slice(3));
  expect(await harnessd.events(id, { "last-event-id": last })).toEqual([]);
  const beyond = await harnessd.call("GET", `/v1/runs/${id}/events?after=999`);
  expect(beyond).toMatchObject({ status: 409, body: { error: { code: "seq_ahead" } } });
  const foreign = await harnessd.call("GET", `/v1/runs/${id}/events?after=run_x:1`);
  expect(foreign.status).toBe(400);
});

test("the head of an event stream goes out before there is anything new", async () => {
  const id = await harnessd.createRun({ prompt: "sleep 30" });
  const started = await harnessd.until(id, (event) => event.type === "tool.call.started");
  const answer = await harnessd.open(`/v1/runs/${id}/events?after=${started.id}`);
  expect(answer.statusCode).toBe(200);
  expect(answer.headers["content-type"]).toStartWith("text/event-stream");
  await harnessd.call("POST", `/v1/runs/${id}/cancel`);
  const types = [];
  for await (const frame of frames(answer)) types.push(frame.type);
  expect(types.at(-1)).toBe("run.cancelled");
});

test("frames, run and summary have the shape that the public program gives them", async () => {
  const id = await harnessd.createRun({ prompt: "echo hi", conversation_id: "c", agent_id: "a" });
  const text = await readText(await harnessd.open(`/v1/runs/${id}/events`));
  const theirs = await readFile(join(import.meta.dirname, "../data/harnessd/simple.sse"), "utf8");
  expect(fieldsOf(text.split("\n\n")[0] ?? "")).toEqual(fieldsOf(theirs.split("\n\n")[0] ?? ""));
  expect(text).toStartWith(`id: ${id}:0\nretry: 3000\nevent: run.started\ndata: {"id":"${id}:0"`);
  for (const [file, path] of [
    ["simple.run.json", `/v1/runs/${id}`],
    ["simple.summary.json", `/v1/runs/${id}/summary`],
  ]) {
    const sample = await readFile(
      join(import.meta.dirname, "../data/harnessd", file ?? ""),
      "utf8",
    );
    const wanted = Object.keys(z.record(z.string(), z.unknown()).parse(JSON.parse(sample)));
    const { body } = await harnessd.call("GET", path ?? "");
    expect(Object.keys(z.record(z.string(), z.unknown()).parse(body))).toEqual(
      expect.arrayContaining(wanted),
    );
  }
});

test("a summary of a run that goes on, and a decision that nothing waits for, are refused", async () => {
  const id = await harnessd.createRun({ prompt: "sleep 30" });
  const summary = await harnessd.call("GET", `/v1/runs/${id}/summary`);
  expect(summary).toMatchObject({ status: 409, body: { error: { code: "run_not_finished" } } });
  for (const action of ["input", "steer", "continue", "approve", "deny"]) {
    const answer = await harnessd.call("POST", `/v1/runs/${id}/${action}`, {});
    expect(answer).toMatchObject({ status: 409, body: { error: { code: "run_not_waiting" } } });
  }
  await harnessd.call("POST", `/v1/runs/${id}/cancel`);
  await harnessd.events(id);
});

test("what does not fit is refused with a code, never started", async () => {
  const refused = async (body: unknown) => {
    const answer = await harnessd.call("POST", "/v1/runs", body);
    const { error } = z.object({ error: z.object({ code: z.string() }) }).parse(answer.body);
    return `${answer.status} ${error.code}`;
  };
  expect(await refused({})).toBe("400 invalid_request");
  expect(await refused({ prompt: "x", surprise: 1 })).toBe("400 invalid_request");
  expect(await refused({ prompt: "x", env: { "A=B": "c" } })).toBe("400 invalid_request");
  expect(await refused({ prompt: "x\0y" })).toBe("400 invalid_request");
  const asked = { prompt: "x", permissions: { approval: "all" } };
  expect(await refused(asked)).toBe("400 invalid_request");
  expect(await refused({ prompt: "x", harness: "nope" })).toBe("400 invalid_request");
  expect(await refused({ prompt: "x".repeat(17_000_000) })).toBe("413 body_too_large");
  const unknown = await harnessd.call("GET", "/v1/runs/run_x");
  expect(unknown).toMatchObject({ status: 404, body: { error: { code: "run_not_found" } } });
  expect((await harnessd.call("GET", "/nowhere")).status).toBe(404);
});

test("the same interface answers on the unix socket, which only its owner may open", async () => {
  expect((await stat(harnessd.socketPath)).mode & 0o777).toBe(0o600);
  const text = await new Promise<string>((resolve, reject) => {
    const request = httpRequest({ socketPath: harnessd.socketPath, path: "/healthz" }, (answer) => {
      readText(answer).then(resolve, reject);
    });
    request.once("error", reject);
    request.end();
  });
  expect(text).toBe('{"status":"ok"}');
});

async function untilExists(path: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!existsSync(path)) {
    if (Date.now() > deadline) throw new Error(`${path} did not appear`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The field names of an SSE frame, in their order. */
function fieldsOf(frame: string): (string | undefined)[] {
  return frame.split("\n").map((line) => line.split(": ")[0]);
}
