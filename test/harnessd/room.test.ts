import { expect, test } from "bun:test";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { frames, startHarnessd, type TestHarnessd } from "./harnessd-process.ts";

async function bytesOnDisk({ folder }: TestHarnessd, runId: string): Promise<number> {
  const dir = join(folder, "data", runId);
  // A file may go while they are counted: that is what is tested.
  const sizes = (await readdir(dir)).map((name) =>
    stat(join(dir, name)).then(
      ({ size }) => size,
      () => 0,
    ),
  );
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** Waits until the log has stopped growing: its programs were made to wait. */
async function untilFull(harnessd: TestHarnessd, runId: string, atLeast: number): Promise<number> {
  const deadline = performance.now() + 20_000;
  for (let before = -1; performance.now() < deadline; ) {
    const now = await bytesOnDisk(harnessd, runId);
    if (now >= atLeast && now === before) return now;
    before = now;
    await sleep(100);
  }
  throw new Error("the log never filled");
}

/**
 * Reads to the end, acknowledging as the daemon does; gives the output's bytes. What is not yet
 * acknowledged must be less than the log holds, else both wait for ever.
 */
async function readAndAck(
  harnessd: TestHarnessd,
  runId: string,
  o: { ackEvery: number; look?: (seq: number) => Promise<void> } = { ackEvery: 1 },
): Promise<{ bytes: number; last: string }> {
  let next = 0;
  let bytes = 0;
  let last = "";
  for await (const frame of frames(await harnessd.open(`/v1/runs/${runId}/events`))) {
    expect(frame.id).toBe(`${runId}:${next}`);
    if (frame.type === "tool.output.delta") bytes += String(frame.payload["content"]).length;
    last = frame.type;
    if (next % o.ackEvery === 0) {
      await harnessd.call("POST", `/v1/runs/${runId}/ack`, { seq: next });
      await o.look?.(next);
    }
    next += 1;
  }
  return { bytes, last };
}

test("a full log makes its program wait, ended or not, and nothing that it wrote is lost (LESSONS 16)", async () => {
  await using harnessd = await startHarnessd({ env: { HARNESS_LOG_MIB: "0.5" } });
  const id = await harnessd.createRun({ prompt: "yes | head -c 3000000" });
  const full = await untilFull(harnessd, id, 500_000);
  expect(full).toBeLessThan(2_000_000);
  await sleep(700);
  expect((await harnessd.call("GET", `/v1/runs/${id}`)).body).toMatchObject({ status: "running" });
  expect((await harnessd.call("GET", "/healthz")).status).toBe(200);
  expect(await readAndAck(harnessd, id)).toEqual({ bytes: 3_000_000, last: "run.completed" });
  expect(await bytesOnDisk(harnessd, id)).toBeLessThan(700_000);
}, 30_000);

test("what a command wrote just before its end waits for room, too", async () => {
  await using harnessd = await startHarnessd({ env: { HARNESS_LOG_MIB: "0.25" } });
  // The rest fits into the pipes: the command itself ends while the log is full.
  const id = await harnessd.createRun({ prompt: "yes | head -c 450000" });
  await untilFull(harnessd, id, 250_000);
  await sleep(6000);
  expect(await readAndAck(harnessd, id)).toEqual({ bytes: 450_000, last: "run.completed" });
}, 30_000);

test("a run that waits for room can be cancelled", async () => {
  await using harnessd = await startHarnessd({ env: { HARNESS_LOG_MIB: "0.5" } });
  const id = await harnessd.createRun({ prompt: "yes" });
  await untilFull(harnessd, id, 500_000);
  await harnessd.call("POST", `/v1/runs/${id}/cancel`);
  expect((await harnessd.events(id)).at(-1)).toMatchObject({
    type: "run.cancelled",
    payload: { processesLeft: 0 },
  });
}, 30_000);

test("400 MB through a slow reader: nothing lost, little disk, little memory", async () => {
  await using harnessd = await startHarnessd({ env: { HARNESS_LOG_MIB: "16" } });
  const id = await harnessd.createRun({
    prompt: "yes 0123456789abcdef0123456789abcdef | head -c 400000000",
  });
  let most = 0;
  const end = await readAndAck(harnessd, id, {
    ackEvery: 64,
    look: async (seq) => {
      most = Math.max(most, await bytesOnDisk(harnessd, id));
      if (seq % 1024 === 0) await sleep(20);
    },
  });
  expect(end).toEqual({ bytes: 400_000_000, last: "run.completed" });
  expect(most).toBeLessThan(24 * 1024 * 1024);
  const status = await readFile(`/proc/${harnessd.child.pid}/status`, "utf8");
  expect(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1])).toBeLessThan(300_000);
}, 120_000);

test("what was acknowledged is dropped; a reader that wants it is told so, a resume behind it goes on", async () => {
  await using harnessd = await startHarnessd({ env: { HARNESS_LOG_MIB: "1" } });
  const id = await harnessd.createRun({ prompt: "yes | head -c 500000; sleep 60" });
  const full = await harnessd.until(id, ({ id: at }) => Number(at.split(":")[1]) === 20);
  expect(full.type).toBe("tool.output.delta");
  const answer = await harnessd.call("POST", `/v1/runs/${id}/ack`, { seq: 20 });
  expect(answer).toMatchObject({ status: 200, body: { acked_seq: 20 } });
  const gone = await harnessd.call("GET", `/v1/runs/${id}/events`);
  expect(gone).toMatchObject({ status: 410, body: { error: { code: "events_truncated" } } });
  const beyond = await harnessd.call("POST", `/v1/runs/${id}/ack`, { seq: 100_000 });
  expect(beyond).toMatchObject({ status: 409, body: { error: { code: "seq_ahead" } } });
  for (const after of [19, 20]) {
    for await (const frame of frames(await harnessd.open(`/v1/runs/${id}/events?after=${after}`))) {
      expect(frame.id).toBe(`${id}:${after + 1}`);
      break;
    }
  }
  await harnessd.call("POST", `/v1/runs/${id}/cancel`);
}, 30_000);
