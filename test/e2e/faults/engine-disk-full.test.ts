import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { httpRequest } from "../../../src/net/http-request.ts";
import { openDb } from "../../../src/storage/open-db.ts";
import {
  canOwnEngine,
  mountSmall,
  type OwnEngine,
  ownEngine,
  unmounted,
} from "../../support/e2e-engine.ts";
import { isEnd, type Lab, outputOf, seqsOf, startLab, upTo } from "../../support/e2e-lab.ts";
import { report, summary } from "../../support/fault-chance.ts";
import { expectLogged } from "../../support/fault-logs.ts";
import { RunReader } from "../../support/fault-reader.ts";
import { counting, firstDifference, numbered } from "../../support/fault-text.ts";
import { isSuiteSkipped } from "../../support/net-namespace.ts";

const LIMIT_MS = 120_000;
const LINES = 1500;
const ENGINE_MB = 450;
const HOME_MB = 24;
const fix = "run as root, and: npm run engines";
const noEngine = canOwnEngine ? undefined : "no dockerd that this user may start";
const noRoot = process.getuid?.() === 0 ? undefined : "a small disk is mounted by root";

async function healthy(lab: Lab): Promise<void> {
  const { controlSocket: socketPath } = lab.paths;
  for (const path of ["/healthz", "/v1/status"]) {
    const answer = await httpRequest({ socketPath, path, signal: AbortSignal.timeout(5000) });
    expect(answer.status).toBe(200);
    await answer.text();
  }
}

function readerOf(lab: Lab, runId: string): RunReader {
  return new RunReader({ url: () => lab.hub.url, token: lab.token, runId, limitMs: LIMIT_MS });
}

const logged = ({ home, hub, token }: Lab, reader: RunReader) =>
  expectLogged({ home, url: hub.url, token }, reader);

/** Contiguous, one end, and what came is the beginning of what was to come. */
function expectInOrder({ events, output }: RunReader): void {
  expect(seqsOf(events)).toEqual(upTo(events.length));
  expect(events.filter(isEnd)).toHaveLength(1);
  const lines = output.split("\n").filter((line) => line.startsWith("line "));
  expect(numbered(LINES).startsWith(lines.map((line) => `${line}\n`).join(""))).toBe(true);
}

const skipEngine = isSuiteSkipped("engine-disk-full", noEngine, fix);
describe.skipIf(skipEngine)("an engine whose disk is full", () => {
  let engine: OwnEngine;
  let lab: Lab;
  const sandbox = { provider: "docker", egress: "none" };
  const run = { harness: "shell", sandbox, thread: "filled" };

  beforeAll(async () => {
    engine = await ownEngine({ diskMb: ENGINE_MB });
    lab = await startLab();
    await lab.link({ args: ["--docker-host", engine.host, "--local-sandbox-provider", "docker"] });
    expect(outputOf(await lab.run({ ...run, prompt: "echo room" }))).toBe("room\n");
  }, 120_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
  }, 60_000);

  test(
    "by the run itself: it ends right, and everything that it said is there",
    async () => {
      const fill = "dd if=/dev/zero of=/workspace/fill bs=1M 2>&1 | grep -o 'No space.*'";
      const prompt = `${fill}; ${counting(LINES, 10, 0.01)}`;
      const reader = readerOf(lab, await lab.dispatch({ ...run, prompt }));
      await reader.ended;
      expectInOrder(reader);
      await logged(lab, reader);
      await healthy(lab);
      const { type, payload } = reader.last ?? {};
      const promise = `engine's disk full by the run: ${type}`;
      summary({ promise, provider: "docker", faults: 1, events: reader.events.length });
      if (type === "run.completed") {
        expect(reader.output).toStartWith("No space left on device\n");
        expect(
          firstDifference(reader.output.replace(/^.*\n/, ""), numbered(LINES)),
        ).toBeUndefined();
      } else {
        expect(payload).toMatchObject({ detail: expect.stringMatching(/disk|space|ENOSPC/i) });
      }
    },
    LIMIT_MS,
  );

  test(
    "a sandbox that finds no room is a typed failure that names the disk",
    async () => {
      writeFileSyncFully(join(engine.dataRoot, "ballast"));
      const events = await lab.run({ harness: "shell", sandbox, prompt: "echo made" });
      const end = events.at(-1);
      expect(seqsOf(events)).toEqual(upTo(events.length));
      report(`engine's disk full, new sandbox: ${JSON.stringify(end?.payload)}`);
      expect(end).toMatchObject({
        type: "run.failed",
        payload: {
          code: "storage_failed",
          leg: "sandbox",
          detail: expect.stringMatching(/of the Docker engine has \d+ MiB free/),
          fix: expect.stringContaining("docker system df"),
        },
      });
      await healthy(lab);
    },
    LIMIT_MS,
  );

  test(
    "with room again a new run works, with no word to the daemon",
    async () => {
      await rm(join(engine.dataRoot, "ballast"));
      await lab.run({ ...run, prompt: "rm -f /workspace/fill" });
      const events = await lab.run({ harness: "shell", sandbox, prompt: "echo made" });
      expect(outputOf(events)).toBe("made\n");
    },
    LIMIT_MS,
  );
});

const skipHome = isSuiteSkipped("daemon-disk-full", noRoot, fix);
describe.skipIf(skipHome)("a daemon whose disk is full", () => {
  let lab: Lab;
  const state = () => join(lab.home, "state");
  const ballast = () => join(state(), "ballast");
  const Integrity = z.object({ integrity_check: z.string() });

  beforeAll(async () => {
    lab = await startLab();
    await mountSmall(state(), HOME_MB);
    await lab.link({ args: ["--local-sandbox-provider", "process"] });
  }, 60_000);
  afterAll(async () => {
    const mounted = lab === undefined ? undefined : state();
    const { hub } = lab ?? {};
    if (hub === undefined || mounted === undefined) return;
    await endDaemon();
    while (await unmounted(mounted)) continue;
    await lab[Symbol.asyncDispose]();
    expect(await readFile("/proc/mounts", "utf8")).not.toContain(lab.home);
  }, 60_000);
  const endDaemon = async () => {
    const { pid } = z.looseObject({ pid: z.int() }).parse(await status());
    process.kill(pid, "SIGTERM");
    for (let alive = true; alive; ) {
      await new Promise((resolve) => {
        setTimeout(resolve, 50);
      });
      try {
        process.kill(pid, 0);
      } catch {
        alive = false;
      }
    }
    const db = openDb(join(state(), "journal.db"));
    expect(Integrity.parse(db.prepare("PRAGMA integrity_check").get()).integrity_check).toBe("ok");
    db.close();
  };
  const status = async () => {
    const { controlSocket: socketPath } = lab.paths;
    const signal = AbortSignal.timeout(5000);
    return (await httpRequest({ socketPath, path: "/v1/status", signal })).json();
  };

  test(
    "in mid-run: the run waits or ends typed, nothing is corrupt, and it goes on with room",
    async () => {
      const run = { harness: "shell", prompt: counting(LINES, 1, 0.001) };
      const reader = readerOf(lab, await lab.dispatch(run));
      await reader.until(() => reader.lines >= 200);
      writeFileSyncFully(ballast());
      const fullAt = performance.now();
      let seen = -1;
      // Until nothing moves for a second: all that is on disk is told, and no more comes.
      while (seen !== reader.events.length && !(reader.last && isEnd(reader.last))) {
        seen = reader.events.length;
        await new Promise((resolve) => {
          setTimeout(resolve, 1000);
        });
        await healthy(lab);
      }
      const told = reader.lines;
      await rm(ballast());
      await reader.ended;
      expectInOrder(reader);
      await logged(lab, reader);
      const { type, payload } = reader.last ?? {};
      const promise = `daemon's disk full in mid-run: ${type}`;
      summary({ promise, provider: "process", faults: 1, events: reader.events.length });
      const ms = Math.round(performance.now() - fullAt);
      report(
        `daemon's disk full: ${told} lines told, ${type} behind ${reader.lines} lines, ${ms} ms; ${JSON.stringify(payload).slice(0, 300)}`,
      );
      if (type === "run.completed")
        expect(firstDifference(reader.output, numbered(LINES))).toBeUndefined();
      else
        expect(payload).toMatchObject({
          code: "storage_failed",
          leg: "daemon",
          fix: expect.stringMatching(/./),
        });
    },
    LIMIT_MS,
  );

  test(
    "a dispatch to a full disk is answered, typed; afterwards a run works",
    async () => {
      writeFileSyncFully(ballast());
      const reader = readerOf(lab, await lab.dispatch({ harness: "shell", prompt: "echo full" }));
      const over = await Promise.race([
        reader.ended.then(() => "ended"),
        new Promise((resolve) => {
          setTimeout(resolve, 3000, "waits");
        }),
      ]);
      await healthy(lab);
      await rm(ballast());
      await reader.ended;
      await logged(lab, reader);
      report(
        `daemon's disk full, a dispatch: ${String(over)}, then ${reader.last?.type} ${JSON.stringify(reader.last?.payload).slice(0, 200)}`,
      );
      expect(seqsOf(reader.events)).toEqual(upTo(reader.events.length));
      const events = await lab.run({ harness: "shell", prompt: "echo room" });
      expect(outputOf(events)).toBe("room\n");
    },
    LIMIT_MS,
  );
});

/** Writes until the disk has not one byte left. */
function writeFileSyncFully(path: string): void {
  for (let size = 1024 * 1024; size >= 1; size = Math.floor(size / 16)) {
    try {
      for (;;) writeFileSync(path, Buffer.alloc(size), { flag: "a" });
    } catch (error) {
      if (!String(error).includes("ENOSPC")) throw error;
    }
  }
}
