import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { deferred } from "../../src/protocol/deferred.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import { MemoryProvider } from "../support/memory-provider.ts";
import { ExecutorHome, typesOf } from "./executor-home.ts";
import { thrownBy } from "./journal-home.ts";

let home: ExecutorHome;

beforeEach(() => {
  home = new ExecutorHome(new MemoryProvider());
});
afterEach(() => home[Symbol.asyncDispose]());

const cancelled = { type: "run.cancelled", payload: { processesLeft: 0 } };

describe("cancel (LESSONS 18)", () => {
  test("ends a working harness within two seconds, by proof", async () => {
    home.run("hang");
    await home.until("assistant.message.delta");
    const since = performance.now();
    home.executor.cancel("run-1", 1);
    expect((await home.end()).at(-1)).toMatchObject(cancelled);
    expect(performance.now() - since).toBeLessThan(2000);
    expect(home.provider.harness().processes).toBe(0);
    expect(home.model.granted.size).toBe(0);
  });

  test("ends a harness that does not listen, from outside", async () => {
    home.run("stubborn");
    await home.until("assistant.message.delta");
    const since = performance.now();
    home.executor.cancel("run-1");
    expect((await home.end()).at(-1)).toMatchObject(cancelled);
    expect(performance.now() - since).toBeLessThan(2000);
    expect([...home.provider.harness().runs.values()][0]?.cancels).toBe(1);
  });

  test("takes the sandbox away when its processes can't be ended", async () => {
    home.run("stubborn");
    await home.until("assistant.message.delta");
    home.provider.immortal = 2;
    home.executor.cancel("run-1");
    expect((await home.end()).at(-1)).toMatchObject(cancelled);
    expect(home.provider.sandboxes.size).toBe(0);
    expect(home.model.sockets).toEqual([]);
  });

  test("is what somebody asked for: a harness that was told to stop by its engine has lost its run", async () => {
    home.run("hang");
    await home.until("assistant.message.delta");
    home.provider.harness().emit("run.cancelled");
    expect((await home.end()).at(-1)).toMatchObject({
      type: "run.failed",
      payload: { code: "sandbox_lost", leg: "sandbox", processesLeft: 0 },
    });
  });

  test("stops the making of a sandbox", async () => {
    home.provider.gate = deferred().promise;
    home.run("hang");
    await home.until("sandbox.provisioning");
    home.executor.cancel("run-1", 1);
    expect((await home.end()).at(-1)).toMatchObject(cancelled);
    expect(home.provider.sandboxes.size).toBe(0);
    expect(home.model.sockets).toEqual([]);
  });

  test("ends a run that waits for its user", async () => {
    home.run("replay:askuser");
    await home.until("run.waiting_for_user");
    home.executor.cancel("run-1", 1);
    expect((await home.end()).at(-1)).toMatchObject(cancelled);
  });

  test("ends a queued run without a sandbox", async () => {
    await home.restart({ limits: { maxRuns: 1 } });
    home.run("hang");
    home.run("hang", { runId: "run-2" });
    await home.until("run.queued", "run-2");
    home.executor.cancel("run-2", 1);
    expect(typesOf(await home.end("run-2"))).toEqual(["run.queued", "run.cancelled"]);
    home.executor.cancel("run-1", 1);
    await home.end();
  });

  test("of a run that was never dispatched is kept: it ends at once when it comes", async () => {
    home.executor.cancel("run-1", 1);
    await home.restart();
    expect(home.run("hang")).toMatchObject({ status: "cancelled", lastSeq: 1 });
    expect(home.executor.active()).toEqual([]);
    expect(home.provider.ensured).toEqual([]);
  });

  test("of an ended run changes nothing; of an older attempt it is attempt_stale", async () => {
    home.run("replay:simple");
    const events = await home.end();
    home.executor.cancel("run-1", 1);
    expect(home.events()).toEqual(events);
    home.run("replay:simple", { attempt: 2 });
    expect(thrownBy(() => home.executor.cancel("run-1", 1)).code).toBe("attempt_stale");
    await home.end("run-1", 2);
  });

  test("is told only when somebody could look: an engine that is down delays it", async () => {
    home.run("stubborn");
    await home.until("assistant.message.delta");
    home.provider.engineDown = true;
    home.executor.cancel("run-1", 1);
    const first = await Promise.race([home.end(), Bun.sleep(600).then(() => "still looking")]);
    expect(first).toBe("still looking");
    home.provider.engineDown = false;
    expect((await home.end()).at(-1)).toMatchObject(cancelled);
  });
});

describe("a run that fails says where, and what to do (LESSONS 19)", () => {
  test("on its sandbox", async () => {
    home.provider.ensureError = new DecoError("image_missing", "no such image");
    home.run("true");
    const end = (await home.end()).at(-1);
    expect(end).toMatchObject({
      type: "run.failed",
      payload: {
        code: "image_missing",
        leg: "sandbox",
        detail: "no such image",
        fix: "Run `deco image build`.",
      },
    });
    expect(home.model.sockets).toEqual([]);
  });

  test("on a harness that this sandbox has not", async () => {
    home.provider.harnesses = ["shell"];
    home.run("true", { harness: "claude-code" });
    expect((await home.end()).at(-1)?.payload).toMatchObject({
      code: "harness_missing",
      leg: "sandbox",
    });
  });

  test("on the harness's own failure, with its words", async () => {
    home.run("replay:llmfail");
    const end = (await home.end()).at(-1);
    expect(end?.payload).toMatchObject({ code: "harness_failed", leg: "harness" });
    expect(String(end?.payload["detail"])).toContain("provider completion failed");
  });

  test("with the harness's code where it is one of the table", async () => {
    const payload = { code: "model_failed", detail: "HTTP 500", fix: "Wait." };
    home.run(`events:${JSON.stringify([{ type: "run.failed", payload }])}`);
    expect((await home.end()).at(-1)?.payload).toMatchObject({ ...payload, leg: "harness" });
  });

  test("on a sandbox that vanishes under it", async () => {
    home.run("hang");
    await home.until("assistant.message.delta");
    const [handle = ""] = home.provider.sandboxes.keys();
    await home.provider.remove(handle);
    expect((await home.end()).at(-1)?.payload).toMatchObject({
      code: "sandbox_lost",
      leg: "sandbox",
    });
  }, 20_000);

  test("when the sandbox was swapped before the receipt was taken", async () => {
    home.run("hang");
    await home.until("assistant.message.delta");
    const [sandbox] = home.provider.sandboxes.values();
    if (sandbox) sandbox.info = { ...sandbox.info, startedAt: new Date(0).toISOString() };
    home.provider.harness().emit("run.completed", { output: "trust me" });
    expect((await home.end()).at(-1)).toMatchObject({
      type: "run.failed",
      payload: { code: "sandbox_lost", leg: "sandbox" },
    });
  });

  test("when its time is over, and nothing of it is left", async () => {
    home.run("stubborn", { options: { timeoutSeconds: 1 } });
    const end = (await home.end()).at(-1);
    expect(end?.payload).toMatchObject({ code: "budget_exceeded", processesLeft: 0 });
    expect(home.provider.harness().processes).toBe(0);
  });
});

describe("many runs", () => {
  test("run side by side up to the limit, the rest in order (LESSONS 23)", async () => {
    await home.restart({ limits: { maxRuns: 2 } });
    for (const runId of ["a", "b", "c"]) home.run("hang", { runId });
    await Promise.all([home.until("sandbox.ready", "a"), home.until("sandbox.ready", "b")]);
    expect(home.events("c").at(-1)).toMatchObject({
      type: "run.queued",
      payload: { reason: "max_runs" },
    });
    expect(home.journal.state("c")?.status).toBe("queued");
    home.executor.cancel("a", 1);
    await home.until("sandbox.ready", "c");
    await home.executor.cancelAll();
    expect(home.journal.unfinished()).toEqual([]);
  });

  test("of one thread share one sandbox, one after the other", async () => {
    home.run("hang", { runId: "a", thread: "t" });
    home.run("replay:simple", { runId: "b", thread: "t" });
    home.run("replay:simple", { runId: "c", thread: "other" });
    await home.end("c");
    await home.until("assistant.message.delta", "a");
    expect(home.events("b")).toMatchObject([
      { type: "run.queued", payload: { reason: "sandbox_busy" } },
    ]);
    const [handle = ""] = home.executor.active().map((run) => run.handle);
    expect(home.executor.isBusy(handle)).toBe(true);
    home.executor.cancel("a", 1);
    expect((await home.end("b")).at(-1)?.type).toBe("run.completed");
    expect(home.provider.sandboxes.size).toBe(2);
  });

  test("the same dispatch attaches, even when no new one would be taken (LESSONS 17)", async () => {
    home.run("hang");
    await home.until("assistant.message.delta");
    expect(await home.executor.drain(1)).toBe(1);
    expect(home.run("hang")).toMatchObject({ runId: "run-1", status: "running" });
    expect(home.provider.ensured).toHaveLength(1);
    expect(thrownBy(() => home.run("another")).code).toBe("run_conflict");
    expect(thrownBy(() => home.run("hang", { runId: "new" })).code).toBe("draining");
    home.executor.cancel("run-1");
    expect(await home.executor.drain(5000)).toBe(0);
  });

  test("a higher attempt starts only after the lower one is proven gone", async () => {
    home.run("stubborn");
    await home.until("assistant.message.delta");
    home.run("replay:simple", { attempt: 2 });
    expect((await home.end("run-1", 1)).at(-1)).toMatchObject({
      type: "run.cancelled",
      payload: { processesLeft: 0, reason: "superseded" },
    });
    const second = await home.end("run-1", 2);
    expect(second[0]).toMatchObject({
      type: "run.queued",
      payload: { reason: "previous_attempt" },
    });
    expect(second.at(-1)?.type).toBe("run.completed");
    expect(thrownBy(() => home.run("stubborn")).code).toBe("attempt_stale");
  });
});

test("a loop that breaks where none should still gives the run its end", async () => {
  home.model.revoke = () => {
    throw new Error("a bug");
  };
  home.run("replay:simple");
  expect((await home.end()).at(-1)).toMatchObject({
    type: "run.failed",
    payload: { code: "internal", leg: "daemon", detail: "a bug" },
  });
});
