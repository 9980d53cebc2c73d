import { expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startHarnessd } from "./harnessd-process.ts";

test("the same client_run_id starts one run, however often and at once it is asked for (LESSONS 17)", async () => {
  await using harnessd = await startHarnessd();
  const body = { prompt: "echo started >> count; sleep 0.3", client_run_id: "run-1.1" };
  const ids = await Promise.all([1, 2, 3].map(() => harnessd.createRun(body)));
  expect(new Set(ids).size).toBe(1);
  const [id = ""] = ids;
  await harnessd.events(id);
  expect(await harnessd.createRun(body)).toBe(id);
  expect(await readFile(join(harnessd.workspace, "count"), "utf8")).toBe("started\n");
  expect((await harnessd.call("GET", "/v1/runs?client_run_id=run-1.1")).body).toMatchObject({
    client_run_id: "run-1.1",
    runs: [{ id, status: "completed", client_run_id: "run-1.1" }],
  });
  expect((await harnessd.call("GET", "/v1/runs?client_run_id=run-2.1")).body).toEqual({
    client_run_id: "run-2.1",
    runs: [],
  });
  expect(await harnessd.createRun({ ...body, client_run_id: "run-1.2" })).not.toBe(id);
});

test("a client_run_id that stands for another prompt is refused", async () => {
  await using harnessd = await startHarnessd();
  await harnessd.createRun({ prompt: "true", client_run_id: "run-1.1" });
  const answer = await harnessd.call("POST", "/v1/runs", {
    prompt: "false",
    client_run_id: "run-1.1",
  });
  expect(answer).toMatchObject({ status: 409, body: { error: { code: "run_conflict" } } });
});

test("a client_run_id is known after a restart of harnessd: its run is not started again", async () => {
  const folder = await mkdtemp(join(tmpdir(), "harnessd-"));
  try {
    const body = { prompt: "echo up; sleep 60", client_run_id: "run-1.1" };
    const first = await startHarnessd({ folder });
    const id = await first.createRun(body);
    await first.until(id, (event) => event.type === "tool.output.delta");
    await first.kill("SIGKILL");
    await using second = await startHarnessd({ folder });
    expect(await second.createRun(body)).toBe(id);
    expect((await second.events(id)).at(-1)?.payload["code"]).toBe("harness_restarted");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
