import { runBehaviours } from "./run.ts";
import { tunnelBehaviours } from "./tunnel.ts";
import { tunnelFailures } from "./tunnel-failures.ts";

await runBehaviours({ ...tunnelBehaviours, ...tunnelFailures });
