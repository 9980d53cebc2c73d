import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { frames, startHarnessd, TOKEN } from "./harnessd-process.ts";

test("the token file is gone before anything is listened on, and each route but /healthz wants it", async () => {
  await using harnessd = await startHarnessd();
  expect(existsSync(join(harnessd.folder, "token"))).toBe(false);
  const status = async (path: string, authorization: string) =>
    (await harnessd.open(path, { authorization })).resume().statusCode;
  expect(await status("/healthz", "")).toBe(200);
  expect(await status("/v1/runs", "")).toBe(401);
  expect(await status("/v1/runs", "Bearer wrong")).toBe(401);
  expect(await status("/v1/ports/80/", `Basic ${TOKEN}`)).toBe(401);
  expect(await status("/v1/runs", `Bearer ${TOKEN}`)).toBe(200);
});

test("without a token file it starts only when told that it may", async () => {
  expect(startHarnessd({ withoutToken: true })).rejects.toThrow("no token");
  const env = { HARNESS_ALLOW_UNAUTHENTICATED: "1" };
  await using harnessd = await startHarnessd({ withoutToken: true, env });
  expect((await harnessd.open("/v1/runs", { authorization: "" })).resume().statusCode).toBe(200);
});

test("a killed harnessd comes back with its logs; the run that was going on has failed", async () => {
  const folder = await mkdtemp(join(tmpdir(), "harnessd-"));
  try {
    const first = await startHarnessd({ folder });
    const ended = await first.createRun({ prompt: "echo kept" });
    const before = await first.events(ended);
    const cut = await first.createRun({ prompt: "echo $$ > pid; echo up; exec sleep 60" });
    const up = await first.until(cut, (event) => event.type === "tool.output.delta");
    await first.kill("SIGKILL");
    process.kill(Number(await readFile(join(first.workspace, "pid"), "utf8")), "SIGKILL");
    // The line that the crash tore apart.
    await appendFile(
      join(folder, "data", cut, "events.log"),
      `{"id":"${cut}:3","run_id":"${cut}","ty`,
    );

    await using second = await startHarnessd({ folder });
    expect(await second.events(ended)).toEqual(before);
    const events = await second.events(cut);
    expect(events).toContainEqual(up);
    expect(events.at(-1)).toMatchObject({
      id: `${cut}:${events.length - 1}`,
      type: "run.failed",
      payload: { code: "harness_restarted" },
    });
    expect((await second.call("GET", `/v1/runs/${cut}`)).body).toMatchObject({ status: "failed" });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("neither the run's environment nor its model token is written to disk", async () => {
  await using harnessd = await startHarnessd();
  const id = await harnessd.createRun({
    prompt: "true",
    env: { SECRET: "s3cret-value" },
    model_access: { token: "m0del-token" },
  });
  await harnessd.events(id);
  for (const file of await readdir(join(harnessd.folder, "data", id))) {
    const text = await readFile(join(harnessd.folder, "data", id, file), "utf8");
    expect(text).not.toContain("s3cret-value");
    expect(text).not.toContain("m0del-token");
  }
});

test("100 MB of output with a reader that does not read stay out of memory", async () => {
  await using harnessd = await startHarnessd();
  const id = await harnessd.createRun({
    prompt: "yes 0123456789abcdef0123456789abcdef | head -c 100000000",
  });
  const stalled = await harnessd.open(`/v1/runs/${id}/events`);
  stalled.pause();
  let bytes = 0;
  let last = "";
  let next = 0;
  for await (const frame of frames(await harnessd.open(`/v1/runs/${id}/events`))) {
    expect(frame.id).toBe(`${id}:${next++}`);
    if (frame.type === "tool.output.delta") bytes += String(frame.payload["content"]).length;
    last = frame.type;
  }
  expect(last).toBe("run.completed");
  expect(bytes).toBe(100_000_000);
  const status = await readFile(`/proc/${harnessd.child.pid}/status`, "utf8");
  expect(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1])).toBeLessThan(300_000);
  stalled.destroy();
}, 60_000);

test("SIGTERM cancels what runs, tells the readers, and ends the program with 0", async () => {
  await using harnessd = await startHarnessd();
  const id = await harnessd.createRun({ prompt: "echo up; sleep 60" });
  await harnessd.until(id, (event) => event.type === "tool.output.delta");
  const reader = harnessd.events(id);
  const code = await harnessd.kill("SIGTERM");
  expect((await reader).at(-1)).toMatchObject({
    type: "run.cancelled",
    payload: { processesLeft: 0 },
  });
  expect(code).toBe(0);
});

test("a program that prints nothing and exits with 0 is a failure, not an answer", async () => {
  const folder = await mkdtemp(join(tmpdir(), "claude-"));
  try {
    await writeFile(join(folder, "claude"), "#!/bin/sh\necho 'no room' >&2\nexit 0\n", {
      mode: 0o755,
    });
    await using harnessd = await startHarnessd({ env: { PATH: `${folder}:/usr/bin:/bin` } });
    const access = { model_access: { token: "t" } };
    const id = await harnessd.createRun({ harness: "claude-code", prompt: "hi", ...access });
    expect((await harnessd.events(id)).at(-1)).toMatchObject({
      type: "run.failed",
      payload: {
        code: "harness_failed",
        detail: "claude ended with exit code 0 and no result: no room",
      },
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("a harness that is not there fails the run with harness_missing", async () => {
  await using harnessd = await startHarnessd({ env: { PATH: "/usr/bin:/bin" } });
  const access = { model_access: { token: "t" } };
  const id = await harnessd.createRun({ harness: "claude-code", prompt: "hi", ...access });
  expect((await harnessd.events(id)).at(-1)?.payload["code"]).toBe("harness_missing");
  const { body } = await harnessd.call("GET", "/v1/harnesses");
  expect(body).toMatchObject({ harnesses: [{}, { name: "claude-code", available: false }] });
});
