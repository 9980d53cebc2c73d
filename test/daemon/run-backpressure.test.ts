import { afterEach, beforeEach, expect, test } from "bun:test";
import { type Journal, openJournal } from "../../src/daemon/journal.ts";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import { terminalStatus } from "../../src/protocol/run-events.ts";
import { MemoryProvider } from "../support/memory-provider.ts";
import { ExecutorHome } from "./executor-home.ts";

let home: ExecutorHome;

beforeEach(async () => {
  home = new ExecutorHome(new MemoryProvider());
  await home.reopen((path) => openJournal({ path, limits: { maxRunBytes: 20_000 } }));
});
afterEach(() => home[Symbol.asyncDispose]());

/** What a hub does: pulls, chains, acks behind itself; gives every line that it read. */
async function pullAll(): Promise<string[]> {
  const lines: string[] = [];
  const signal = AbortSignal.timeout(10_000);
  let chain = CHAIN_START;
  for (let ended = false; !ended; ) {
    await home.journal.waitFor("run-1", 1, lines.length, signal);
    for (const row of home.journal.read("run-1", 1, lines.length, 50)) {
      expect(row.seq).toBe(lines.length + 1);
      lines.push(row.data);
      chain = nextChain(chain, row.data);
      ended = terminalStatus(row.type) !== undefined;
    }
    home.journal.ack("run-1", { attempt: 1, seq: lines.length, chain });
  }
  return lines;
}

test("a harness that says more than the journal may hold waits for the hub, and nothing is lost (LESSONS 16)", async () => {
  home.run("flood:1000");
  await home.until("run.suspended");
  const held = home.journal.totalBytes();
  const types: string[] = [];
  const contents: string[] = [];
  for (const line of await pullAll()) {
    const { type, payload } = JSON.parse(line);
    types.push(type);
    if (type === "tool.output.delta") contents.push(payload.content);
  }
  expect(contents).toEqual(Array.from({ length: 1000 }, (_, index) => `line ${index}\n`));
  expect(types.filter((type) => type === "run.suspended").length).toBe(
    types.filter((type) => type === "run.resumed").length,
  );
  expect(types.at(-1)).toBe("run.completed");
  // One batch may pass the limit, a heap of them may not.
  expect(held).toBeLessThan(20_000 + 512 * 250);
  expect(home.journal.totalBytes()).toBe(0);
});

test("ten thousand tiny deltas cost few rows when they come faster than the disk, and read the same", async () => {
  await home.reopen((path) => openJournal({ path }));
  home.run("drops:10000");
  const events = (await home.end()).filter(({ type }) => type === "tool.output.delta");
  expect(events.map(({ payload }) => payload["content"]).join("")).toBe(
    Array.from({ length: 10_000 }, (_, index) => `line ${index}\n`).join(""),
  );
  expect(events.length).toBeLessThan(5000);
  const longest = Math.max(...events.map(({ payload }) => String(payload["content"]).length));
  expect(longest).toBeLessThanOrEqual(64 * 1024);
  // Behind the last of all, as if it had come alone.
  expect(home.journal.record("run-1")?.lastHarnessEventId).toEndWith(":10000");
});

test("a harness is told what is in the journal, and no more", async () => {
  await home.reopen((path) => openJournal({ path, limits: { maxRunBytes: 400_000 } }));
  home.run("flood:5000");
  await home.until("run.suspended");
  await Bun.sleep(250);
  const harness = home.provider.harness();
  const [acked = -1] = harness.acks.values();
  const journaled = home.journal.record("run-1")?.lastHarnessEventId;
  expect(acked).toBeGreaterThan(0);
  expect(journaled).toEndWith(`:${acked}`);
  await pullAll();
});

test("a harness that takes no acks runs all the same", async () => {
  await home.reopen((path) => openJournal({ path }));
  home.run("hang");
  await home.until("assistant.message.delta");
  const harness = home.provider.harness();
  harness.knowsNames = false;
  harness.emit("run.completed", { output: "" });
  expect((await home.end()).at(-1)?.type).toBe("run.completed");
});

test("a daemon that ends while its journal is full leaves no run suspended for ever", async () => {
  home.run("flood:1000");
  await home.until("run.suspended");
  await home.restart();
  const types = (await pullAll()).map((line) => JSON.parse(line).type);
  const at = types.indexOf("run.suspended");
  expect(types[at + 1]).toBe("run.resumed");
  expect(types.filter((type) => type === "tool.output.delta")).toHaveLength(1000);
});

test("a run that waits for room can be cancelled", async () => {
  home.run("flood:1000");
  await home.until("run.suspended");
  home.executor.cancel("run-1", 1);
  const end = await home.end();
  expect(end.at(-1)).toMatchObject({ type: "run.cancelled", payload: { processesLeft: 0 } });
});

test("an end that the disk refuses is told as soon as it can be written", async () => {
  let refusals = 0;
  await home.reopen((path) => refusing(openJournal({ path }), () => refusals++ < 1));
  home.run("replay:simple");
  expect((await home.end()).at(-1)?.type).toBe("run.completed");
  expect(refusals).toBe(2);
});

/** The real journal, whose disk refuses terminal events while `refuse` says so. */
function refusing(journal: Journal, refuse: () => boolean): Journal {
  return {
    ...journal,
    append: (runId, attempt, drafts) => {
      if (drafts.some(({ type }) => type === "run.completed") && refuse()) {
        throw new DecoError("storage_failed", "disk full");
      }
      return journal.append(runId, attempt, drafts);
    },
  };
}
