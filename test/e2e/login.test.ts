import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rm, stat } from "node:fs/promises";
import { z } from "zod";
import { readSession } from "../../src/daemon/credentials.ts";
import { RunEvent } from "../../src/protocol/run-events.ts";
import { type Lab, startLab } from "../support/e2e-lab.ts";
import { call } from "../support/hub-call.ts";
import { type DecoResult, type RunningDeco, runDeco, startDeco } from "../support/run-deco.ts";

const record = z.record(z.string(), z.unknown());
const json = ({ lines }: DecoResult) => record.parse(JSON.parse(lines.at(-1) ?? "{}"));
const eventsOf = ({ lines }: DecoResult) => lines.map((line) => RunEvent.parse(JSON.parse(line)));
const Sandboxes = z.object({ sandboxes: z.array(z.looseObject({ handle: z.string() })) });

describe("a laptop from its sign-in to its last command", () => {
  let lab: Lab;
  let link: RunningDeco | undefined;
  /** With nothing in the environment: the session that the sign-in stored has to do. */
  const deco = (...args: string[]) =>
    runDeco(args, { home: lab.home, env: { DECO_HUB: lab.hub.url } });
  const signIn = async (approve: boolean): Promise<DecoResult> => {
    await using login = await startDeco(["login", "--hub", lab.hub.url, "--json"], {
      home: lab.home,
    });
    const [, userCode] = await login.until(/approve the code (\S+)/);
    const cookie = await lab.hub.session();
    const decided = await call(lab.hub.url, {
      method: "POST",
      path: "/api/device/approve",
      cookie,
      headers: { origin: lab.hub.url },
      body: { userCode, approve },
    });
    expect(decided.status).toBe(204);
    return await login.ended;
  };

  beforeAll(async () => {
    lab = await startLab({ deviceIntervalMs: 500 });
  });
  afterAll(async () => {
    await link?.[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  }, 30_000);

  test("nobody signed in: link and run leave with 4 and say what to do", async () => {
    for (const args of [["link"], ["run", "--", "true"], ["runs", "ls"]]) {
      const { code, stderr } = await deco(...args);
      expect({ args, code }).toEqual({ args, code: 4 });
      expect(stderr).toMatch(/^fix: .*deco login/m);
    }
    expect((await deco("status", "--json")).code).toBe(3);
  }, 30_000);

  test("a sign-in that is denied on the page stores nothing and leaves with 4", async () => {
    const { code } = await signIn(false);
    expect(code).toBe(4);
    expect(stat(lab.paths.sessionFile)).rejects.toThrow();
  }, 30_000);

  test("approved on the page, it stores a session for this user alone", async () => {
    const done = await signIn(true);
    expect(done.code).toBe(0);
    expect(json(done)).toEqual({ ok: true, hub: lab.hub.url });
    expect((await stat(lab.paths.sessionFile)).mode & 0o777).toBe(0o600);
    const session = await readSession(lab.paths.sessionFile, lab.hub.url);
    expect(done.stdout + done.stderr).not.toContain(session?.token);
  }, 30_000);

  test("the stored session links the laptop", async () => {
    const args = ["link", "--hub", lab.hub.url, "--local-sandbox-provider", "process", "--json"];
    link = await startDeco(args, { home: lab.home });
    await link.until(/"link\.online"/);
    const status = await deco("status", "--json");
    expect(status.code).toBe(0);
    expect(json(status)).toMatchObject({
      state: "online",
      hub: lab.hub.url,
      provider: "process",
      linkId: expect.stringMatching(/./),
    });
  }, 30_000);

  test("a run of it ends with the run's own exit; ls, show and logs tell the same", async () => {
    const good = await deco("run", "--json", "--thread", "t", "--", "echo out; echo err >&2");
    expect(good.code).toBe(0);
    const events = eventsOf(good);
    expect(events.at(-1)?.type).toBe("run.completed");
    const runId = events[0]?.runId ?? "";
    expect(json(await deco("runs", "show", runId, "--json"))).toMatchObject({
      runId,
      status: "completed",
      harness: "shell",
      thread: "t",
      receipt: { provider: "process", confined: true, processesLeft: 0 },
    });
    const logs = await deco("runs", "logs", runId, "--json");
    expect({ code: logs.code, lines: logs.lines }).toEqual({ code: 0, lines: good.lines });
    const { runs } = z
      .object({ runs: z.array(z.looseObject({ runId: z.string() })) })
      .parse(json(await deco("runs", "ls", "--json")));
    expect(runs.map((run) => run.runId)).toEqual([runId]);
  }, 30_000);

  test("a command that fails, a harness that is not there, an unknown run: each its own exit code", async () => {
    const failed = await deco("run", "--json", "--thread", "t", "--", "exit 3");
    expect(failed.code).toBe(1);
    expect(eventsOf(failed).at(-1)?.payload).toMatchObject({ exitCode: 3 });
    expect((await deco("run", "--provider", "virtualbox", "--", "true")).code).toBe(7);
    expect((await deco("run", "--harness", "codex", "--", "true")).code).toBe(7);
    expect((await deco("run", "--tier", "4", "--", "true")).code).toBe(6);
    expect((await deco("run", "--timeout", "1", "--", "sleep 30")).code).toBe(8);
    expect((await deco("runs", "show", "run_nowhere")).code).toBe(1);
    expect((await deco("run")).code).toBe(2);
    const nowhere = ["run", "--hub", "http://127.0.0.1:9", "--", "true"];
    expect((await deco(...nowhere)).code).toBe(4);
    const { code } = await runDeco(nowhere, { home: lab.home, env: { DECO_TOKEN: lab.token } });
    expect(code).toBe(5);
  }, 60_000);

  test("sandbox ls shows the thread's sandbox; rm takes it away, and again is no error", async () => {
    const { sandboxes } = Sandboxes.parse(json(await deco("sandbox", "ls", "--json")));
    const handles = sandboxes
      .map(({ handle }) => handle)
      .filter((handle) => handle.startsWith("t-"));
    expect(handles).toHaveLength(1);
    for (let twice = 0; twice < 2; twice += 1) {
      expect((await deco("sandbox", "rm", ...handles)).code).toBe(0);
    }
    const after = Sandboxes.parse(json(await deco("sandbox", "ls", "--json")));
    expect(after.sandboxes.map(({ handle }) => handle)).not.toContain(handles[0]);
  }, 30_000);

  test("smoke passes", async () => {
    const smoke = await deco("smoke", "--json");
    expect({ code: smoke.code, stderr: smoke.code === 0 ? "" : smoke.stderr }).toEqual({
      code: 0,
      stderr: "",
    });
    expect(json(smoke)).toMatchObject({ ok: true });
  }, 30_000);

  test("signed out, the laptop stays linked by its own key; stopped, nothing is left behind", async () => {
    await rm(lab.paths.sessionFile);
    expect((await deco("runs", "ls")).code).toBe(4);
    link?.child.kill("SIGTERM");
    expect((await link?.ended)?.code).toBe(143);
    link = await startDeco(["link", "--hub", lab.hub.url, "--json"], { home: lab.home });
    await link.until(/"link\.online"/);
    link.child.kill("SIGTERM");
    expect((await link.ended).code).toBe(143);
    expect(await lab.leftBehind()).toEqual([]);
  }, 30_000);
});
