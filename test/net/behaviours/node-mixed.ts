import { mixedBehaviours } from "./mixed.ts";
import { runBehaviours } from "./run.ts";

// node-mixed <command of the far daemon…>
await runBehaviours(mixedBehaviours(process.argv.slice(2)));
