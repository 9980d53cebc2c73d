import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { leftovers, type Snapshot, takeSnapshot } from "../support/leftovers.ts";
import { type RunningDeco, runDeco, startDeco } from "../support/run-deco.ts";

const events = (lines: readonly string[]) =>
  lines.map((line): { type: string; payload: Record<string, unknown> } => JSON.parse(line));

describe("deco up, while it runs", () => {
  let home: string;
  let before: Snapshot;
  let up: RunningDeco;
  const deco = (args: string[], env: Record<string, string> = {}) => runDeco(args, { home, env });

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), "deco-up-"));
    before = await takeSnapshot(home);
    const env = { DECO_KEEP_SANDBOXES: "2" };
    up = await startDeco(["up", "--port", "0", "--provider", "process"], { home, env });
    await up.until(/sign-in\?code=/);
  }, 60_000);
  afterAll(async () => {
    await up?.[Symbol.asyncDispose]();
    await rm(home, { recursive: true, force: true });
  });

  test("a second one on the same home is refused with 9, and names the first", async () => {
    const { code, stdout, stderr } = await deco(["up", "--port", "0"]);
    expect({ code, stdout }).toEqual({ code: 9, stdout: "" });
    expect(stderr).toContain(`pid ${up.child.pid}`);
  });

  test("status answers with the link online and the provider", async () => {
    const { code, lines } = await deco(["status", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ state: "online", provider: "process" });
  });

  test("run finds it by the home alone, and ends with the run's result", async () => {
    const good = await deco(["run", "--json", "--", "echo", "hello"]);
    expect(good.code).toBe(0);
    expect(events(good.lines).at(-1)?.type).toBe("run.completed");
    const bad = await deco(["run", "--", "exit 3"]);
    expect(bad.code).not.toBe(0);
  });

  test("run --local goes by the unix socket, without the hub", async () => {
    const env = { DECO_HUB: "http://127.0.0.1:9" };
    const { code, lines } = await deco(["run", "--local", "--json", "--", "echo", "near"], env);
    expect(code).toBe(0);
    expect(events(lines).some(({ payload }) => payload["content"] === "near\n")).toBe(true);
  });

  test("run --detach prints the id; runs ls, show, logs and cancel know it", async () => {
    const detached = await deco(["run", "--detach", "--json", "--", "sleep 600"]);
    const { runId } = JSON.parse(detached.lines[0] ?? "");
    const cancelled = await deco(["runs", "cancel", runId]);
    expect(cancelled.code).toBe(0);
    const logs = await deco(["runs", "logs", runId, "-f", "--json"]);
    expect(events(logs.lines).at(-1)?.type).toBe("run.cancelled");
    expect(logs.code).toBe(1);
    const shown = await deco(["runs", "show", runId, "--json"]);
    expect(JSON.parse(shown.lines[0] ?? "")).toMatchObject({ runId, status: "cancelled" });
    const list = await deco(["runs", "ls"]);
    expect(list.stdout).toContain(runId);
  });

  test("an unknown run is an error with a fix, not an empty answer", async () => {
    const { code, stderr } = await deco(["runs", "show", "nope"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: No such run.*\nfix: /);
  });

  test("SIGINT on run cancels the run and leaves with 130", async () => {
    await using run = await startDeco(["run", "--json", "--", "echo here; sleep 600"], { home });
    await run.until(/here/);
    run.child.kill("SIGINT");
    const { code, lines } = await run.ended;
    expect(code).toBe(130);
    expect(events(lines).at(-1)).toMatchObject({
      type: "run.cancelled",
      payload: { processesLeft: 0 },
    });
  });

  test("smoke passes, and doctor finds nothing that keeps it from working", async () => {
    const smoke = await deco(["smoke", "--json"]);
    expect({ code: smoke.code, stderr: smoke.code ? smoke.stderr : "" }).toEqual({
      code: 0,
      stderr: "",
    });
    const doctor = await deco(["doctor", "--json"]);
    const { checks } = JSON.parse(doctor.lines[0] ?? "");
    expect(checks.filter(({ status }: { status: string }) => status === "fail")).toEqual([]);
    expect(doctor.code).toBe(0);
  });

  test("sandbox ls shows what runs left, sandbox rm takes it away", async () => {
    const list = async (): Promise<string[]> => {
      const { lines } = await deco(["sandbox", "ls", "--json"]);
      const { sandboxes } = JSON.parse(lines[0] ?? "");
      return sandboxes.map(({ handle }: { handle: string }) => handle);
    };
    // More runs than that were here: the oldest sandboxes went by themselves (LESSONS 43).
    let handles = await list();
    while (handles.length > 2) handles = await list();
    // Smoke took its own away.
    expect(handles).not.toEqual([]);
    expect((await deco(["sandbox", "rm", ...handles])).code).toBe(0);
    const after = await deco(["sandbox", "ls", "--json"]);
    expect(JSON.parse(after.lines[0] ?? "")).toEqual({ sandboxes: [], errors: [] });
  });

  test("SIGTERM drains and leaves with 143, and nothing is left behind", async () => {
    up.child.kill("SIGTERM");
    const { code } = await up.ended;
    expect(code).toBe(143);
    expect((await deco(["status", "--json"])).code).toBe(3);
    expect(await leftovers(home, before)).toEqual([]);
  });
});
