import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { hostname } from "node:os";
import { enrol } from "../../../src/daemon/enrol.ts";
import { hubApi } from "../../../src/daemon/hub-api.ts";
import { type Identity, openIdentity } from "../../../src/daemon/identity.ts";
import { resolvePaths } from "../../../src/daemon/paths.ts";
import { dialTunnel } from "../../../src/net/tunnel-dial.ts";
import { HubClock } from "../../../src/protocol/hub-clock.ts";
import type { Heartbeat, Registered } from "../../../src/protocol/messages.ts";
import { summary } from "../../support/fault-chance.ts";
import { FaultLab } from "../../support/fault-lab.ts";
import { copiedHome } from "../../support/fault-twins.ts";

const RACES = 1000;
const LIMIT_MS = 600_000;

const identityOf = (home: string) =>
  openIdentity(resolvePaths({ env: { DECO_HOME: home } }).machineFile);
const empty = () => Promise.resolve(new Response());

describe("two daemons with one identity", () => {
  let lab: FaultLab;
  let copy: string;

  beforeAll(async () => {
    lab = await FaultLab.start();
    copy = await copiedHome(lab, "process");
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
      const promise = "two registrations at once: one superseded";
      summary({ promise, faults: RACES, times: took });
    },
    LIMIT_MS,
  );

  test("nothing is left behind", async () => {
    expect(await lab.leftBehind()).toEqual([]);
  }, 60_000);
});

const codeOf = (thrown: unknown): string =>
  thrown instanceof Error && "code" in thrown ? String(thrown.code) : String(thrown);
