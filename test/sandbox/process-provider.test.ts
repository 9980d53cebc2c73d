import { findCgroups } from "../../src/sandbox/drivers/process/cgroups.ts";
import { processProvider } from "../../src/sandbox/drivers/process/process-provider.ts";
import {
  CACHE_DIR,
  quietLog,
  sandboxProviderSuite,
  skipped,
} from "../suites/sandbox-provider-suite.ts";

const probe = await processProvider({
  instanceId: "probe",
  runRoot: "/tmp",
  cacheDir: CACHE_DIR,
  log: quietLog,
}).probe(AbortSignal.timeout(20_000));

if (!probe.confined) {
  skipped("sandbox provider process", probe.reason ?? "not confined", "run as root on Linux");
} else {
  sandboxProviderSuite({
    name: "process",
    make: (parts) => processProvider({ ...parts, cacheDir: CACHE_DIR, log: quietLog }),
    leftovers: ({ instanceId }) => findCgroups(instanceId),
  });
}
