import { createHash } from "node:crypto";
import { join } from "node:path";
import type { SandboxSpec } from "../protocol/messages.ts";
import type { SandboxInfo } from "../sandbox/provider.ts";
import { type ResolvedSpec, tierOf } from "../sandbox/sandbox-spec.ts";
import { resolveSpec, type TemplatePlaces } from "../sandbox/templates/resolve.ts";
import type { DaemonPaths } from "./paths.ts";
import { type Asker, allowHubInside, allowTier, readPolicy } from "./policy.ts";
import { allowWorkspace } from "./workspace-policy.ts";

/** What a sandbox object means on this laptop, and whether its owner allows it. */
export interface SandboxRules {
  /**
   * Reads templates, runtimes and policy anew each time.
   *
   * @throws capability_missing, invalid_request, policy_denied
   */
  resolve(spec: SandboxSpec, asker: RunAsker): ResolvedSpec;
  /**
   * Before a hub reaches into a sandbox by its handle, whoever made it.
   *
   * @throws policy_denied
   */
  allowHub(sandbox: Pick<SandboxInfo, "provider" | "confined">): void;
  /** Whether hubs may have to do with the owner's own sandboxes. A broken policy shares nothing. */
  sharesLocal(): boolean;
}

export interface RunAsker extends Asker {
  readonly thread?: string | undefined;
}

export interface RulesPlaces extends TemplatePlaces {
  readonly policy: string;
  /** The daemon's own folders, which no sandbox gets; the one of the settings when absent. */
  readonly own?: readonly string[];
}

/** The owner's files in the folder of the settings. */
export function rulesPlaces(config: string, own: readonly string[] = [config]): RulesPlaces {
  return {
    own,
    templates: join(config, "templates"),
    runtimes: join(config, "runtimes.json"),
    policy: join(config, "policy.json"),
  };
}

/** The rules of one home, whose folders no sandbox gets. */
export function rulesOf({ config, state, data, cache, runtime }: DaemonPaths): SandboxRules {
  return sandboxRules(rulesPlaces(config, [config, state, data, cache, runtime]));
}

export function sandboxRules(places: RulesPlaces): SandboxRules {
  return {
    resolve(spec, asker) {
      const resolved = resolveSpec(spec, places);
      const policy = readPolicy(places.policy);
      allowTier(policy, tierOf(resolved.tier), asker);
      const workspace = allowWorkspace(policy, resolved.workspace, { own: places.own ?? [] });
      const allowed = workspace === undefined ? resolved : { ...resolved, workspace };
      const threadKey = threadKeyOf(asker);
      if (threadKey === undefined) return allowed;
      return { ...allowed, facts: { ...resolved.facts, threadKey } };
    },
    sharesLocal() {
      const policy = readPolicy(places.policy);
      return policy.type === "read" && policy.value.shareLocalSandboxes === true;
    },
    allowHub({ provider, confined }) {
      if (provider === "docker" && !confined) allowHubInside(readPolicy(places.policy));
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
