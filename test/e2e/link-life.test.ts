import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { cp, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type Lab, newHome, outputOf, seqsOf, startLab, upTo } from "../support/e2e-lab.ts";
import { call } from "../support/hub-call.ts";
import { until } from "../support/hub-fixture.ts";
import { type RunningDeco, runDeco } from "../support/run-deco.ts";

const HEARTBEAT_MS = 1000;
const PROVIDER = ["--local-sandbox-provider", "process"];
const Links = z.object({
  status: z.string(),
  links: z.array(z.looseObject({ linkId: z.string(), epoch: z.int(), reachable: z.boolean() })),
});

describe("the life of a link", () => {
  let lab: Lab;
  let link: RunningDeco;
  const links = async () => {
    const answer = await call(lab.hub.url, { path: "/api/links/me", token: lab.token });
    return Links.parse(answer.body);
  };

  beforeAll(async () => {
    lab = await startLab({ heartbeatIntervalMs: HEARTBEAT_MS, ttlMs: 3 * HEARTBEAT_MS });
  });
  beforeEach(async () => {
    if (link === undefined || link.child.exitCode !== null)
      link = await lab.link({ args: PROVIDER });
  }, 30_000);
  afterAll(() => lab?.[Symbol.asyncDispose](), 30_000);

  test("a second program on the same home is refused with 9, and names the first", async () => {
    for (const args of [
      ["up", "--port", "0"],
      ["link", "--hub", lab.hub.url],
    ]) {
      const second = await runDeco(args, { home: lab.home, env: { DECO_TOKEN: lab.token } });
      expect({ args, code: second.code }).toEqual({ args, code: 9 });
      expect(second.stderr).toContain(String(link.child.pid));
    }
    expect((await links()).status).toBe("online");
  }, 30_000);

  test("a hub that restarts finds the link online again within a heartbeat or two", async () => {
    const {
      links: [before],
    } = await links();
    await lab.hub.restart();
    const restartedAt = performance.now();
    await until(async () => (await links()).links.some(({ reachable }) => reachable));
    expect(performance.now() - restartedAt).toBeLessThan(5 * HEARTBEAT_MS);
    const {
      links: [after],
    } = await links();
    expect(after?.linkId).toBe(before?.linkId ?? "");
    expect(link.child.exitCode).toBeNull();
  }, 30_000);

  test("a run goes on while the hub restarts, twice; its events are all there, once", async () => {
    const prompt = "i=1; while [ $i -le 50 ]; do echo line $i; i=$((i+1)); sleep 0.1; done";
    const runId = await lab.dispatch({ harness: "shell", prompt });
    const events = [];
    let restarts = 0;
    for await (const event of lab.events(runId)) {
      events.push(event);
      if (restarts >= 2 || !outputOf(events).includes(`line ${(restarts + 1) * 10}\n`)) continue;
      restarts += 1;
      await lab.hub.restart();
    }
    expect(restarts).toBe(2);
    expect(seqsOf(events)).toEqual(upTo(events.length));
    expect(events.at(-1)?.type).toBe("run.completed");
    expect(outputOf(events)).toBe(
      upTo(50)
        .map((line) => `line ${line}\n`)
        .join(""),
    );
  }, 60_000);

  test("a second daemon with the same identity takes over; the older leaves with 9 and the reason", async () => {
    const {
      links: [before],
    } = await links();
    const copy = await newHome();
    try {
      await cp(join(lab.home, "state"), join(copy, "state"), {
        recursive: true,
        filter: (path) => !/lock|holder/.test(path),
      });
      const second = await lab.link({ home: copy, args: PROVIDER });
      const { code, stderr, stdout } = await link.ended;
      expect(code).toBe(9);
      expect(stdout + stderr).toMatch(/newer daemon|took over|superseded/i);
      const {
        links: [after],
        status,
      } = await links();
      expect(status).toBe("online");
      expect(after?.linkId).toBe(before?.linkId ?? "");
      expect(after?.epoch).toBeGreaterThan(before?.epoch ?? 0);
      expect(second.child.exitCode).toBeNull();
      await second[Symbol.asyncDispose]();
    } finally {
      await rm(copy, { recursive: true, force: true });
    }
  }, 60_000);

  test("revoked: the daemon wipes its keys and leaves with 4; its proof does not bring it back", async () => {
    const {
      links: [mine],
    } = await links();
    const path = `/api/links/${mine?.linkId}`;
    const { url } = lab.hub;
    expect((await call(url, { method: "DELETE", path, token: lab.token })).status).toBe(204);
    const { code, stdout, stderr } = await link.ended;
    expect(code).toBe(4);
    expect(stdout + stderr).toMatch(/revoked/);
    const gone = [lab.paths.machineFile, lab.paths.linkFile];
    for (const file of gone) expect(stat(file)).rejects.toThrow();
    expect(await links()).toEqual({ status: "offline", links: [] });
  }, 30_000);

  test("the same home enrols anew with its user's token, as another link", async () => {
    // beforeEach started it again.
    expect((await links()).status).toBe("online");
    link.child.kill("SIGTERM");
    expect((await link.ended).code).toBe(143);
    expect((await links()).status).toBe("offline");
    expect(await lab.leftBehind()).toEqual([]);
  }, 30_000);
});
