import type { AllSandboxes, Sandboxes } from "../sandboxes.ts";
import type { ControlEnv } from "./control-env.ts";

/** Sandboxes as whoever asks may know of them. */
export function seenBy(sandboxes: AllSandboxes, { signed }: ControlEnv): Sandboxes {
  return signed === true ? sandboxes.forHub : sandboxes;
}
