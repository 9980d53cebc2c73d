import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import {
  CACHE_DIR,
  quietLog,
  sandboxProviderSuite,
  skipped,
} from "../suites/sandbox-provider-suite.ts";
import { dockerObjects } from "../support/docker-objects.ts";
import { madeAhead } from "../support/made-ahead.ts";

const probe = await dockerProvider({
  instanceId: "probe",
  runRoot: "/tmp",
  cacheDir: CACHE_DIR,
  log: quietLog,
}).probe(AbortSignal.timeout(20_000));

if (!probe.available) {
  skipped("sandbox provider docker", probe.reason ?? "no engine", "run `npm run engines`");
} else {
  sandboxProviderSuite({
    name: "docker",
    make: (parts) =>
      dockerProvider({
        ...parts,
        ...madeAhead,
        cacheDir: CACHE_DIR,
        log: quietLog,
        pausePool: 1,
      }),
    leftovers: async ({ instanceId }) => (await dockerObjects(instanceId)).sandboxes,
    leftAtEnd: async ({ instanceId }) => {
      const { pauses, spares, networks } = await dockerObjects(instanceId);
      return [...pauses, ...spares, ...networks];
    },
  });
}
