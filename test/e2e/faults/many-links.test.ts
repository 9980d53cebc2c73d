import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { openHubKeys } from "../../../src/hub/keys.ts";
import { isSoak, percentiles, report } from "../../support/fault-chance.ts";
import { call } from "../../support/hub-call.ts";
import { TalkingChild } from "../../support/impaired-child.ts";

const COUNT = 500;
const BEAT_MS = 10_000;
const TTL_MS = 30_000;
/** Of 500 links, in any 100 ms: of tries to connect, and of registrations with a hub that forgot all. */
const MOST_DIALS = 250;
const MOST_REGISTRATIONS = 350;
/** All of it runs on two cores: hub, links, and this test, beside other tests. */
const SLOWEST_P99_MS = 5000;
const ROUNDS = isSoak ? 5 : 1;
const LIMIT_MS = 120_000 * ROUNDS;
const source = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const Times = z.array(z.number());
const Told = z.object({
  online: z.int(),
  rssMb: z.int(),
  registrations: Times,
  dials: Times,
  beats: Times,
});
const MyLinks = z.object({ links: z.array(z.looseObject({ reachable: z.boolean() })) });

describe(`${COUNT} links of one hub`, () => {
  let data: string;
  let hub: TalkingChild;
  let links: TalkingChild;
  let url: string;
  let token: string;

  const startHub = async (port: string) => {
    const args = [
      source("../../support/fault-hub.ts"),
      port,
      data,
      String(BEAT_MS),
      String(TTL_MS),
    ];
    hub = new TalkingChild(process.execPath, args, {});
    const [, found = ""] = await hub.until(/"url":"([^"]+)"/);
    url = found;
  };
  /** What the links did since the last question. */
  const ask = async () => {
    const heard = links.said.length;
    links.write("");
    const [line] = await links.until(/\{.*\}\n/, heard);
    return Told.parse(JSON.parse(line));
  };
  const hubMb = async () => {
    const status = await readFile(`/proc/${hub.child.pid}/status`, "utf8");
    return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1000);
  };
  const reachable = async () => {
    const { body } = await call(url, { path: "/api/links/me", token });
    return MyLinks.parse(body).links.filter((link) => link.reachable).length;
  };
  /** Asks /healthz all the while; gives how long each answer took. */
  const untilAllReachable = async () => {
    const answers: number[] = [];
    const startedAt = performance.now();
    for (let looks = 0; ; looks += 1) {
      const askedAt = performance.now();
      await call(url, { path: "/healthz" });
      answers.push(performance.now() - askedAt);
      if (looks % 10 === 9 && (await reachable()) === COUNT) break;
      if (performance.now() - startedAt > TTL_MS) throw new Error(`${await reachable()} are back`);
      await sleep(20);
    }
    return { answers, backMs: Math.round(performance.now() - startedAt) };
  };
  const tell = async (what: string, answers: readonly number[], backMs: number) => {
    const told = await ask();
    const p99 = answers.toSorted((a, b) => a - b)[Math.floor(answers.length * 0.99)] ?? 0;
    report(`many-links, ${what}: all ${COUNT} reachable after ${backMs} ms`);
    report(`many-links, ${what}: registrations per 100 ms ${histogram(told.registrations)}`);
    report(`many-links, ${what}: dials per 100 ms ${histogram(told.dials)}`);
    report(`many-links, ${what}: healthz p99 ${Math.round(p99)} ms, ${percentiles(answers)}`);
    report(
      `many-links, ${what}: hub ${await hubMb()} MB, ${COUNT} links in one process ${told.rssMb} MB`,
    );
    return { ...told, p99 };
  };

  beforeAll(async () => {
    data = await mkdtemp(join(tmpdir(), "deco-many-"));
    await startHub("0");
    token = await openHubKeys(data).userToken({ user: "ada", ttlSeconds: 36_000 });
    const program = source("../../support/programs/impaired-links.ts");
    links = new TalkingChild(process.execPath, [program, url, String(COUNT)], {
      DECO_TOKEN: token,
      TMPDIR: data,
    });
  }, 30_000);
  afterAll(async () => {
    links?.child.stdin?.end();
    await links?.until(/nothing ever says this/).catch(() => undefined);
    await hub?.end();
    await rm(data, { recursive: true, force: true });
  }, 60_000);

  test(
    "register all at once, and the hub goes on answering",
    async () => {
      const { answers, backMs } = await untilAllReachable();
      const { p99 } = await tell("a start", answers, backMs);
      expect(p99).toBeLessThan(SLOWEST_P99_MS);
    },
    LIMIT_MS,
  );

  test(
    "are back within one TTL of a hub that was killed, spread out",
    async () => {
      for (let round = 0; round < ROUNDS; round += 1) {
        await ask();
        await hub.end("SIGKILL");
        await sleep(1000);
        await startHub(new URL(url).port);
        const readyAt = Date.now();
        const { answers, backMs } = await untilAllReachable();
        const told = await tell("a hub killed", answers, backMs);
        // The hub reaches a link a moment before the link has read that it stands.
        while (told.online < COUNT && (await ask()).online < COUNT) await sleep(50);
        expect(backMs).toBeLessThan(TTL_MS);
        // Their secrets are still good: nobody needs to register.
        expect(told.registrations).toHaveLength(0);
        expect(most(told.dials.filter((at) => at >= readyAt))).toBeLessThan(MOST_DIALS);
        expect(told.p99).toBeLessThan(SLOWEST_P99_MS);
      }
    },
    LIMIT_MS,
  );

  test(
    "register again with a hub that forgot them, spread out as well",
    async () => {
      await ask();
      await hub.end("SIGKILL");
      for (const file of ["hub.db", "hub.db-wal", "hub.db-shm"])
        await rm(join(data, file), { force: true });
      expect(existsSync(join(data, "keys.json"))).toBe(true);
      await sleep(1000);
      await startHub(new URL(url).port);
      const { answers, backMs } = await untilAllReachable();
      const told = await tell("an empty registry", answers, backMs);
      expect(backMs).toBeLessThan(TTL_MS);
      expect(told.registrations.length).toBeGreaterThanOrEqual(COUNT);
      expect(most(told.registrations)).toBeLessThan(MOST_REGISTRATIONS);
      expect(told.p99).toBeLessThan(SLOWEST_P99_MS);
    },
    LIMIT_MS,
  );
});

/** Counts of each 100 ms from the first to the last. */
function perTenth(times: readonly number[]): number[] {
  const first = Math.min(...times);
  const counts: number[] = [];
  for (const time of times) {
    const at = Math.floor((time - first) / 100);
    counts[at] = (counts[at] ?? 0) + 1;
  }
  return Array.from(counts, (count) => count ?? 0);
}

function histogram(times: readonly number[]): string {
  return times.length === 0 ? "none" : `${times.length}: ${perTenth(times).join(" ")}`;
}

const most = (times: readonly number[]) => Math.max(0, ...perTenth(times));
