import { afterAll } from "bun:test";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import {
  CACHE_DIR,
  quietLog,
  sandboxProviderSuite,
  skipped,
} from "../suites/sandbox-provider-suite.ts";
import { dockerObjects } from "../support/docker-objects.ts";
import { isSoak } from "../support/fault-chance.ts";
import { podmanService } from "../support/podman-service.ts";

/** docs/sandboxes.md, "Podman", has what of it fails, and why. */
const podman = isSoak ? await podmanService() : undefined;

if (podman !== undefined) {
  const { dockerHost, client } = podman;
  process.stderr.write("SKIPPED on podman: killProcesses, links of files that are read back\n");
  sandboxProviderSuite({
    name: "podman",
    gaps: ["kill", "links"],
    make: (parts) =>
      dockerProvider({ ...parts, dockerHost, cacheDir: CACHE_DIR, log: quietLog, pausePool: 1 }),
    leftovers: async ({ instanceId }) => (await dockerObjects(instanceId, client)).sandboxes,
    leftAtEnd: async ({ instanceId }) => {
      const { pauses, spares, networks } = await dockerObjects(instanceId, client);
      return [...pauses, ...spares, ...networks];
    },
  });
  afterAll(async () => await podman[Symbol.asyncDispose]());
} else if (isSoak) {
  skipped("sandbox provider podman", "no podman", "run `SOAK=1 npm run engines`");
} else {
  process.stderr.write("SKIPPED sandbox provider podman: run `npm run test:soak`\n");
}
