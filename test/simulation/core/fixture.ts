import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openHubKeys } from "../../../src/hub/keys.ts";
import { chance } from "./chance.ts";
import { enterWorld } from "./current.ts";
import { Disk } from "./disk.ts";
import { type Fixture, USER } from "./simulation.ts";
import { World } from "./world.ts";

/** What all seeds of a process share. */
export async function makeFixture(): Promise<Fixture & Disposable> {
  enterWorld(new World(chance(1)));
  const dataDir = mkdtempSync(join(tmpdir(), "deco-simulation-"));
  const keys = openHubKeys(dataDir);
  const x = "A".repeat(43);
  return {
    dataDir,
    userToken: await keys.userToken({ user: USER, ttlSeconds: 10 * 365 * 24 * 3600 }),
    identity: {
      machineId: "sim-machine",
      privateJwk: { kty: "OKP", crv: "Ed25519", x, d: x },
      publicJwk: { kty: "OKP", crv: "Ed25519", x },
    },
    hubDisk: new Disk(),
    laptopDisks: [new Disk(), new Disk()],
    [Symbol.dispose]: () => rmSync(dataDir, { recursive: true, force: true }),
  };
}
