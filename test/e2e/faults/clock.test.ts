import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { resolvePaths } from "../../../src/daemon/paths.ts";
import { httpRequest } from "../../../src/net/http-request.ts";
import { type Lab, newHome, outputOf, startLab } from "../../support/e2e-lab.ts";
import { isSoak, summary } from "../../support/fault-chance.ts";
import { printedLogs } from "../../support/fault-logs.ts";
import { TalkingChild } from "../../support/impaired-child.ts";
import { moodyProxy, type ProxyMood } from "../../support/impaired-proxy.ts";
import { isSuiteSkipped } from "../../support/net-namespace.ts";

const BEAT_MS = 500;
const HUB_NAME = "hub.deco.test";
const CLI = fileURLToPath(new URL("../../../src/cli.ts", import.meta.url));
const FAKETIME = [
  "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
  "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
].find((path) => existsSync(path));
const noFaketime = FAKETIME === undefined ? "no libfaketime" : undefined;
const noRoot = process.getuid?.() === 0 ? undefined : "a hosts file of its own is for root";
const Status = z.looseObject({
  state: z.string(),
  tunnel: z.string(),
  lastHeartbeatAt: z.string().optional(),
  retryAt: z.string().optional(),
  error: z.object({ code: z.string(), detail: z.string(), fix: z.string() }).optional(),
  warnings: z.array(z.looseObject({ code: z.string(), text: z.string() })),
});

async function statusOf(home: string) {
  const { controlSocket: socketPath } = resolvePaths({ env: { DECO_HOME: home } });
  const signal = AbortSignal.timeout(2000);
  return Status.parse(await (await httpRequest({ socketPath, path: "/v1/status", signal })).json());
}

type Status = z.infer<typeof Status>;

/** What status says is wrong, in words. */
const trouble = ({ error, warnings }: Status) =>
  [error?.detail, ...warnings.map(({ text }) => text)].join(" ").trim();
const isOnline = ({ state, tunnel, warnings }: Status) =>
  state === "online" && tunnel === "up" && warnings.length === 0;

/** Looks until it holds; gives the status and the milliseconds from now. */
async function untilStatus(home: string, limitMs: number, holds: (status: Status) => boolean) {
  const startedAt = performance.now();
  for (;;) {
    const status = await statusOf(home);
    const ms = Math.round(performance.now() - startedAt);
    if (holds(status)) return { status, ms };
    if (ms > limitMs) throw new Error(`not within ${limitMs} ms: ${JSON.stringify(status)}`);
    await sleep(20);
  }
}

const skipClock = isSuiteSkipped("clock", noFaketime, "npm run engines (package faketime)");
describe.skipIf(skipClock)("a laptop whose clock is wrong", () => {
  for (const hours of [8, -8]) {
    test(`by ${hours} h registers, runs, and beats`, async () => {
      await using lab = await startLab({ heartbeatIntervalMs: BEAT_MS, ttlMs: 3 * BEAT_MS });
      const env = {
        LD_PRELOAD: FAKETIME ?? "",
        FAKETIME: `${hours > 0 ? "+" : ""}${hours}h`,
        DONT_FAKE_MONOTONIC: "1",
      };
      const link = await lab.link({ args: ["--local-sandbox-provider", "process"], env });
      const off = Date.parse((await statusOf(lab.home)).lastHeartbeatAt ?? "") - Date.now();
      expect(Math.abs(off - hours * 3_600_000)).toBeLessThan(60_000);
      const run = { harness: "shell", prompt: "echo on time" };
      expect(outputOf(await lab.run(run))).toBe("on time\n");
      const { lastHeartbeatAt } = await statusOf(lab.home);
      for (let beats = 0; beats < 3; beats += 1) await sleep(BEAT_MS);
      const later = await statusOf(lab.home);
      expect(later).toMatchObject({ state: "online", tunnel: "up", warnings: [] });
      expect(Date.parse(later.lastHeartbeatAt ?? "")).toBeGreaterThan(
        Date.parse(lastHeartbeatAt ?? ""),
      );
      await link[Symbol.asyncDispose]();
      // What libfaketime leaves of a process that was ended by a signal.
      for (const name of ["faketime_shm_", "sem.faketime_sem_"])
        await rm(`/dev/shm/${name}${link.child.pid}`, { force: true });
    }, 60_000);
  }
});

const tell = (what: string, saidMs: number, back: number) =>
  summary({ promise: `${what}: back`, faults: 1, times: [back], more: { saidMs } });

const skipHub = isSuiteSkipped("a hub gone wrong", noRoot, "run as root");
describe.skipIf(skipHub)(
  "a hub that can't be had says why in status, and is back by itself",
  () => {
    let lab: Lab;
    let home: string;
    let daemon: TalkingChild;
    let proxy: Awaited<ReturnType<typeof moodyProxy>>;
    let witness: { readonly runId: string; readonly logs: string };
    const logs = (runId: string) =>
      printedLogs({ home: lab.home, url: lab.hub.url, token: lab.token }, runId);
    const hosts = () => join(home, "hosts");
    const setName = (known: boolean) =>
      writeFile(hosts(), `127.0.0.1 localhost\n${known ? `127.0.0.1 ${HUB_NAME}\n` : ""}`);
    const tokenFile = () => join(home, "token");

    beforeAll(async () => {
      const publicUrl = `http://${HUB_NAME}`;
      lab = await startLab({ heartbeatIntervalMs: BEAT_MS, ttlMs: 3 * BEAT_MS, publicUrl });
      proxy = await moodyProxy(() => lab.hub.hub.port);
      home = await newHome();
      await setName(true);
      await writeFile(join(home, "resolv.conf"), "nameserver 127.0.0.1\n");
      await writeFile(tokenFile(), lab.token, { mode: 0o600 });
      // Names are looked up in files of its own, so that a name can go and come back.
      const files =
        'mount --bind "$0/hosts" /etc/hosts; mount --bind "$0/resolv.conf" /etc/resolv.conf';
      const shell = ["--mount", "--", "sh", "-ec", `${files}; exec "$@"`, home, process.execPath];
      const link = [CLI, "link", "--hub", `${publicUrl}:${proxy.port}`, "--insecure", "--json"];
      daemon = new TalkingChild(
        "unshare",
        [...shell, ...link, "--local-sandbox-provider", "process"],
        { DECO_HOME: home, DECO_TOKEN_FILE: tokenFile(), DECO_SERVICE: "1", TMPDIR: home },
      );
      await daemon.until(/"link\.online"/);
      const [first] = await lab.run({ harness: "shell", prompt: "echo before" });
      const { runId = "" } = first ?? {};
      witness = { runId, logs: await logs(runId) };
      expect(witness.logs).toContain("before");
    }, 60_000);
    afterAll(async () => {
      await daemon?.end();
      await proxy?.[Symbol.asyncDispose]();
      await lab?.[Symbol.asyncDispose]();
      await rm(home, { recursive: true, force: true });
    }, 60_000);

    /** Puts the proxy into a mood until the status says so, and tells how long each way took. */
    const through = async (what: string, mood: ProxyMood, said: RegExp) => {
      proxy.become(mood, { cut: true });
      const down = await untilStatus(home, 30_000, ({ error }) => said.test(error?.detail ?? ""));
      expect(down.status.error?.fix).toMatch(/./);
      proxy.become("pass", { cut: false });
      const back = await untilStatus(home, 30_000, isOnline);
      tell(what, down.ms, back.ms);
      expect(daemon.hasEnded).toBe(false);
      const events = await lab.run({ harness: "shell", prompt: "echo back" });
      expect(outputOf(events)).toBe("back\n");
      expect(await logs(witness.runId)).toBe(witness.logs);
    };

    test("behind a proxy that answers 502 with a page", async () => {
      const page = "<html><h1>Bad gateway</h1></html>";
      await through("502 pages", { status: 502, page }, /502/);
    }, 90_000);

    test("that accepts and says nothing", async () => {
      await through("a hub that hangs", "hang", /no tunnel within|no answer|timed? ?out/i);
    }, 90_000);

    test("whose name is gone from DNS", async () => {
      await setName(false);
      proxy.become("pass", { cut: true });
      // The tunnel may stand for a while on what a cache knows; then only heartbeats miss the name.
      const down = await untilStatus(home, 30_000, (status) =>
        /ENOTFOUND|EAI_AGAIN|ECONNREFUSED/.test(trouble(status)),
      );
      await setName(true);
      const back = await untilStatus(home, 40_000, isOnline);
      tell(`DNS gone (${trouble(down.status)})`, down.ms, back.ms);
      expect(await logs(witness.runId)).toBe(witness.logs);
    }, 90_000);

    test("behind a 401 page: unauthorised, with a time for the next try; at once when the login is new", async () => {
      proxy.become({ status: 401, page: "<html>Log in first</html>" }, { cut: true });
      const down = await untilStatus(home, 30_000, ({ state }) => state === "unauthorised");
      expect(down.status.error?.fix).toMatch(/./);
      const inMs = Date.parse(down.status.retryAt ?? "") - Date.now();
      expect(inMs).toBeLessThanOrEqual(300_000);
      proxy.become("pass", { cut: false });
      if (!isSoak) await writeFile(tokenFile(), `${lab.token}\n`);
      const back = await untilStatus(home, 310_000, isOnline);
      tell(`401 pages${isSoak ? "" : ", a new login"}`, down.ms, back.ms);
      expect(await logs(witness.runId)).toBe(witness.logs);
    }, 400_000);
  },
);
