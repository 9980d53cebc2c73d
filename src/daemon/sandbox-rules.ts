import { createHash } from "node:crypto";
import { join } from "node:path";
import type { SandboxSpec } from "../protocol/messages.ts";
import { type ResolvedSpec, tierOf } from "../sandbox/sandbox-spec.ts";
import { resolveSpec, type TemplatePlaces } from "../sandbox/templates/resolve.ts";
import { type Asker, allowTier, readPolicy } from "./policy.ts";

/** What a sandbox object means on this laptop, and whether its owner allows it. */
export interface SandboxRules {
  /**
   * Reads templates, runtimes and policy anew each time.
   *
   * @throws capability_missing, invalid_request, policy_denied
   */
  resolve(spec: SandboxSpec, asker: RunAsker): ResolvedSpec;
}

export interface RunAsker extends Asker {
  readonly thread?: string | undefined;
}

export interface RulesPlaces extends TemplatePlaces {
  readonly policy: string;
}

/** The owner's files in the folder of the settings. */
export function rulesPlaces(config: string): RulesPlaces {
  return {
    templates: join(config, "templates"),
    runtimes: join(config, "runtimes.json"),
    policy: join(config, "policy.json"),
  };
}

export function sandboxRules(places: RulesPlaces): SandboxRules {
  return {
    resolve(spec, asker) {
      const resolved = resolveSpec(spec, places);
      allowTier(readPolicy(places.policy), tierOf(resolved.tier), asker);
      const threadKey = threadKeyOf(asker);
      if (threadKey === undefined) return resolved;
      return { ...resolved, facts: { ...resolved.facts, threadKey } };
    },
  };
}

/** Threads of two users may have one name. */
function threadKeyOf({ user = "", thread }: RunAsker): string | undefined {
  if (thread === undefined) return undefined;
  return createHash("sha256")
    .update(JSON.stringify([user, thread]))
    .digest("hex")
    .slice(0, 12);
}
