import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cp, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { enrol } from "../../../src/daemon/enrol.ts";
import { hubApi } from "../../../src/daemon/hub-api.ts";
import { type Identity, openIdentity } from "../../../src/daemon/identity.ts";
import { resolvePaths } from "../../../src/daemon/paths.ts";
import { dialTunnel } from "../../../src/net/tunnel-dial.ts";
import { HubClock } from "../../../src/protocol/hub-clock.ts";
import type { Heartbeat, Registered } from "../../../src/protocol/messages.ts";
import { openDb } from "../../../src/storage/open-db.ts";
import { isEnd, newHome } from "../../support/e2e-lab.ts";
import {
  between,
  chanceOf,
  isSoak,
  percentiles,
  report,
  seedOf,
} from "../../support/fault-chance.ts";
import { counting, FaultLab, numbered } from "../../support/fault-lab.ts";
import type { RunReader } from "../../support/fault-reader.ts";
import type { RunningDeco } from "../../support/run-deco.ts";

const RACES = 1000;
const TAKEOVERS = isSoak ? 20 : 3;
const LIMIT_MS = 600_000;
const LINES = 40;

const identityOf = (home: string) =>
  openIdentity(resolvePaths({ env: { DECO_HOME: home } }).machineFile);
const empty = () => Promise.resolve(new Response());

describe("two daemons with one identity", () => {
  const chance = chanceOf(seedOf("race"));
  let lab: FaultLab;
  let copy: string;

  beforeAll(async () => {
    lab = await FaultLab.start();
    await lab.startLink("process");
    await lab.killLink("SIGTERM");
    copy = await newHome();
    await cp(join(lab.home, "state"), join(copy, "state"), {
      recursive: true,
      filter: (path) => !/lock|holder/.test(path),
    });
  }, 60_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await rm(copy, { recursive: true, force: true });
  }, 60_000);

  test(
    `register ${RACES} times at once: epochs grow, one wins, the other is told superseded`,
    async () => {
      const hub = hubApi({ hubUrl: lab.url });
      const register = (identity: Identity): Promise<Registered> =>
        enrol({
          hub,
          identity,
          profile: {
            name: "n",
            hostname: hostname(),
            platform: process.platform,
            arch: process.arch,
            cliVersion: "0.0.0",
          },
          capabilities: [],
          clock: new HubClock({ now: Date.now }),
          signal: AbortSignal.timeout(20_000),
        });
      const beat = async ({ linkSecret, epoch }: Registered): Promise<string> => {
        const body: Heartbeat = { epoch, state: "online", load: { runs: 0 }, runs: [] };
        const signal = AbortSignal.timeout(20_000);
        return hub.heartbeat(linkSecret, body, signal).then(() => "taken", codeOf);
      };
      const dial = async ({ linkSecret: secret }: Registered): Promise<string> => {
        const headers = { "x-link-secret": secret };
        const signal = AbortSignal.timeout(20_000);
        return dialTunnel({ url: hub.tunnelUrl, headers, handler: empty, signal }).then(
          async (tunnel) => {
            await tunnel[Symbol.asyncDispose]();
            return "taken";
          },
          codeOf,
        );
      };
      const pair = [await identityOf(lab.home), await identityOf(copy)] as const;
      let newest = 0;
      const took: number[] = [];
      for (let race = 0; race < RACES; race += 1) {
        const startedAt = performance.now();
        const both = await Promise.all(pair.map(register));
        took.push(performance.now() - startedAt);
        const [loser, winner] = both.toSorted((a, b) => a.epoch - b.epoch);
        if (loser === undefined || winner === undefined) throw new Error("two registered");
        expect(loser.epoch).toBeGreaterThan(newest);
        expect(winner.epoch).toBeGreaterThan(loser.epoch);
        newest = winner.epoch;
        expect(await Promise.all([beat(winner), beat(loser)])).toEqual(["taken", "superseded"]);
        if (race % 20 > 0) continue;
        expect(await Promise.all([dial(winner), dial(loser)])).toEqual(["taken", "superseded"]);
      }
      report(`race: ${RACES} races of two registrations, each pair ${percentiles(took)}`);
    },
    LIMIT_MS,
  );

  test(
    `take over ${TAKEOVERS} times under dispatch: the older leaves with 9, no accepted run is given to both`,
    async () => {
      const readers: RunReader[] = [];
      let older: RunningDeco | undefined;
      for (let turn = 0; turn <= TAKEOVERS; turn += 1) {
        const starting = lab.startLink("process", { home: turn % 2 === 0 ? lab.home : copy });
        for (let run = 0; run < (turn === 0 ? 0 : 3); run += 1) {
          await new Promise((resolve) => setTimeout(resolve, between(chance, 0, 700)));
          const runId = await lab.dispatch("process", counting(LINES, 1, 0.02)).catch(() => "");
          if (runId !== "") readers.push(lab.read(runId, { mayBeTakenBack: true }));
        }
        const newer = await starting;
        if (older) expect((await older.ended).code).toBe(9);
        older = newer;
      }
      await lab.expectWhole(
        lab.read(await lab.dispatch("process", counting(LINES, 1, 0.02))),
        LINES,
      );
      await Promise.all(readers.map((reader) => reader.ended));
      for (const { events, output } of readers) {
        expect(numbered(LINES).startsWith(output)).toBe(true);
        expect(events.filter(isEnd)).toHaveLength(1);
        if (events.at(-1)?.type === "run.completed") expect(output).toBe(numbered(LINES));
      }
      const ends = readers.map(
        ({ last }) => `${last?.type} ${JSON.stringify(last?.payload["code"])}`,
      );
      report(`race: ${TAKEOVERS} takeovers, ${readers.length} runs: ${ends.join(", ")}`);
      await lab.killLink("SIGTERM");
      // A daemon that was superseded leaves its sandboxes to the next one on its home.
      await lab.startLink("process", { home: TAKEOVERS % 2 === 0 ? copy : lab.home });
      await lab.killLink("SIGTERM");
      const [mine, other] = [runsOf(lab.home), runsOf(copy)];
      const twice = [...mine].filter(([runId]) => other.has(runId));
      report(`race: ${twice.length} dispatched anew as the 202 was lost in the takeover`);
      for (const [runId, acked] of twice) expect(Math.min(acked, other.get(runId) ?? 0)).toBe(0);
      expect(mine.size + other.size).toBeGreaterThan(0);
    },
    LIMIT_MS,
  );

  test("nothing is left behind", async () => {
    expect(await lab.leftBehind()).toEqual([]);
  }, 60_000);
});

const codeOf = (thrown: unknown): string =>
  thrown instanceof Error && "code" in thrown ? String(thrown.code) : String(thrown);

/** The runs in a home's journal, with how far the hub has acknowledged each. */
function runsOf(home: string): Map<string, number> {
  const db = openDb(resolvePaths({ env: { DECO_HOME: home } }).journalFile);
  try {
    const rows = db.prepare("SELECT run_id, acked_seq FROM runs").all();
    return new Map(rows.map((row) => [String(row["run_id"]), Number(row["acked_seq"])]));
  } finally {
    db.close();
  }
}
