import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { loadConfig, processEnv } from "../../../src/daemon/config.ts";
import { type SigningSession, signed } from "../../../src/daemon/control/signed.ts";
import { hubApi } from "../../../src/daemon/hub-api.ts";
import { silentLog } from "../../../src/daemon/log.ts";
import { linkParts } from "../../../src/daemon/main-link.ts";
import { makePaths } from "../../../src/daemon/paths.ts";
import { supervise } from "../../../src/daemon/supervise.ts";
import { Alarm } from "../../../src/daemon/supervise-alarm.ts";
import { HubClock } from "../../../src/protocol/hub-clock.ts";
import { NonceCache } from "../../../src/protocol/nonces.ts";
import { newMachineKey } from "../../../src/protocol/proof.ts";

/**
 * Many laptops in one process, each with the daemon's own registration, heartbeats and tunnel; only
 * their control planes are scripted. `bun impaired-links.ts URL COUNT`, DECO_TOKEN in the environment.
 * Each line on stdin is answered with what happened since the last one; the end of stdin ends it.
 */
interface Happenings {
  registrations: number[];
  dials: number[];
  beats: number[];
}

const [hubUrl = "", count = "0"] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "deco-links-"));
const stop = new AbortController();
const online = new Set<number>();
let happened: Happenings = { registrations: [], dials: [], beats: [] };

/** All that a hub asks of an idle laptop. */
const control = { fetch: () => Promise.resolve(Response.json({ state: "online" })) };
const links = Array.from({ length: Number(count) }, (_, index) => laptop(index));
for await (const _ of createInterface({ input: process.stdin })) {
  const rssMb = Math.round(process.memoryUsage().rss / 1e6);
  process.stdout.write(`${JSON.stringify({ online: online.size, rssMb, ...happened })}\n`);
  happened = { registrations: [], dials: [], beats: [] };
}
stop.abort();
await Promise.allSettled(links);
rmSync(folder, { recursive: true });
process.exit(0);

async function laptop(index: number): Promise<void> {
  const env = { ...processEnv(), DECO_HOME: join(folder, String(index)), DECO_HUB: hubUrl };
  const config = loadConfig({ env });
  await makePaths(config.paths);
  const hub = hubApi({ hubUrl });
  const clock = new HubClock({ now: Date.now });
  const now = () => clock.now();
  const news = new Alarm();
  let signing: SigningSession | undefined;
  const { privateJwk, publicJwk } = await newMachineKey();
  const { x = "" } = publicJwk;
  const parts = linkParts({
    config: { ...config, name: `laptop-${index}` },
    hub: {
      ...hub,
      register: (body, o) => {
        happened.registrations.push(Date.now());
        return hub.register(body, o);
      },
    },
    identity: {
      machineId: `machine-${index}`,
      privateJwk,
      publicJwk: { kty: "OKP", crv: "Ed25519", x },
    },
    clock,
    app: signed({ app: control, session: () => signing, now }),
    facts: () => ({
      state: "online",
      load: { runs: 0, maxRuns: 4 },
      runs: [],
      capabilities: [],
      settled: () => undefined,
    }),
    onCancel: () => undefined,
    onBeat: () => happened.beats.push(Date.now()),
    onMissed: () => undefined,
    tunnelUrl: undefined,
    news,
    log: silentLog,
  });
  const { dial } = parts;
  if (dial === undefined) throw new Error("no tunnel");
  await supervise({
    ...parts,
    dial: (session, signal) => {
      happened.dials.push(Date.now());
      return dial(session, signal);
    },
    onSession: (session) => {
      const { linkId = "", epoch = 0, signingKey: key = new Uint8Array() } = session ?? {};
      signing = session && { linkId, epoch, key, nonces: new NonceCache({ now }) };
    },
    onState: ({ type }) => {
      if (type === "online") online.add(index);
      else online.delete(index);
    },
    news,
    service: true,
    signal: stop.signal,
  });
}
