import Docker from "dockerode";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import {
  CACHE_DIR,
  quietLog,
  sandboxProviderSuite,
  skipped,
} from "../suites/sandbox-provider-suite.ts";

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
    make: (parts) => dockerProvider({ ...parts, cacheDir: CACHE_DIR, log: quietLog }),
    leftovers: async ({ instanceId }) => {
      const docker = new Docker();
      const filters = { label: [`dev.deco-link.instance=${instanceId}`] };
      const containers = await docker.listContainers({ all: true, filters });
      const { Volumes: volumes } = await docker.listVolumes({ filters: JSON.stringify(filters) });
      const networks = await docker.listNetworks({ filters: JSON.stringify(filters) });
      return [
        ...networks.map(({ Name }) => `network ${Name}`),
        ...containers.map(({ Names }) => Names.join()),
        ...(volumes ?? []).map(({ Name }) => Name),
      ];
    },
  });
}
