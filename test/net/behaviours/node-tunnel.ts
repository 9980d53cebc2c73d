import { runBehaviours } from "./run.ts";
import { tunnelBehaviours } from "./tunnel.ts";
import { tunnelFailures } from "./tunnel-failures.ts";
import { firstBehaviours } from "./tunnel-first.ts";
import { upgradeBehaviours } from "./upgrade.ts";

await runBehaviours({
  ...tunnelBehaviours,
  ...tunnelFailures,
  ...upgradeBehaviours,
  ...firstBehaviours,
});
