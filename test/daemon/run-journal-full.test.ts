import { afterEach, beforeEach, expect, test } from "bun:test";
import { openJournal } from "../../src/daemon/journal.ts";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";
import { ChildProvider } from "../support/child-provider.ts";
import { ExecutorHome } from "./executor-home.ts";

let home: ExecutorHome<ChildProvider>;

beforeEach(async () => {
  home = new ExecutorHome(new ChildProvider({ HARNESS_LOG_MIB: "4" }));
  await home.reopen((path) => openJournal({ path }));
});
afterEach(() => home[Symbol.asyncDispose]());

/** Looks at new events only: there are many. */
async function untilSuspended(): Promise<void> {
  const signal = AbortSignal.timeout(40_000);
  for (let after = 0; ; ) {
    await home.journal.waitFor("run-1", 1, after, signal);
    for (const { seq, type } of home.journal.read("run-1", 1, after, 500)) {
      after = seq;
      if (type === "run.suspended") return;
    }
  }
}

const MIB = 1024 * 1024;

test("with the hub away a loud run fills 64 MiB of journal, then waits; when the hub is back its output is whole", async () => {
  home.run("yes 0123456789abcdef0123456789abcdef | head -c 90000000; echo the end >&2");
  await untilSuspended();
  const held = home.journal.totalBytes();
  expect(held).toBeGreaterThan(60 * MIB);
  expect(held).toBeLessThan(68 * MIB);
  await Bun.sleep(1000);
  // The command itself waits: neither the journal nor harnessd's log takes it in.
  expect(home.journal.totalBytes()).toBe(held);
  expect(home.provider.pids().length).toBeGreaterThan(0);
  expect(home.journal.state("run-1")?.status).toBe("running");

  let bytes = 0;
  let after = 0;
  let chain = CHAIN_START;
  const types = new Map<string, number>();
  const signal = AbortSignal.timeout(50_000);
  while (!types.has("run.completed") && !types.has("run.failed")) {
    await home.journal.waitFor("run-1", 1, after, signal);
    for (const row of home.journal.read("run-1", 1, after, 500)) {
      expect(row.seq).toBe(after + 1);
      after = row.seq;
      chain = nextChain(chain, row.data);
      types.set(row.type, (types.get(row.type) ?? 0) + 1);
      const { payload } = JSON.parse(row.data);
      if (row.type === "tool.output.delta" && payload.stream === "stdout")
        bytes += payload.content.length;
      if (row.type.startsWith("run.suspended")) expect(payload).toEqual({ reason: "journal_full" });
    }
    home.journal.ack("run-1", { attempt: 1, seq: after, chain });
  }
  expect(bytes).toBe(90_000_000);
  expect(types.get("run.completed")).toBe(1);
  expect(types.get("run.suspended")).toBe(types.get("run.resumed"));
}, 60_000);
