import { httpBehaviours } from "./http.ts";
import { runBehaviours } from "./run.ts";
import { sseBehaviours } from "./sse.ts";

await runBehaviours({ ...httpBehaviours, ...sseBehaviours });
