import { DecoError } from "../../protocol/errors.ts";
import {
  type DispatchRun,
  HARNESSES,
  type HarnessName,
  type ProviderName,
  type SandboxSpec,
} from "../../protocol/messages.ts";
import type { SandboxProvider } from "../../sandbox/provider.ts";

export interface AdmissionRules {
  readonly providers: ReadonlyMap<ProviderName, SandboxProvider>;
  /** The provider for runs that name none, or why there is none. */
  readonly defaultProvider: () => ProviderName | DecoError;
  /** Why a provider can't be used now, by the newest probe; undefined when it can. */
  readonly checkProvider: (name: ProviderName) => DecoError | undefined;
  /** Harnesses that this version can run in a sandbox. */
  readonly harnesses: readonly HarnessName[];
}

/**
 * Which provider runs a dispatch. Decided before anything is promised; what this version can't
 * honour is refused, never ignored, and never replaced by something weaker (LESSONS 25).
 *
 * @throws unknown_harness, capability_missing, isolation_unavailable, and what `defaultProvider`
 * or `checkProvider` say
 */
export function admit(dispatch: DispatchRun, rules: AdmissionRules): SandboxProvider {
  checkHarness(dispatch.harness, rules.harnesses);
  const spec = dispatch.sandbox ?? {};
  const name = spec.provider ?? orThrow(rules.defaultProvider());
  const provider = rules.providers.get(name);
  if (!provider) {
    throw new DecoError("capability_missing", `this link offers no ${name} sandboxes`, {
      extensions: { activeCapabilities: [...rules.providers.keys()] },
    });
  }
  checkSpec(spec, name);
  const unavailable = rules.checkProvider(name);
  if (unavailable) throw unavailable;
  return provider;
}

function checkHarness(harness: string, offered: readonly HarnessName[]): void {
  const known = HARNESSES.find((name) => name === harness);
  if (known === undefined) {
    throw new DecoError("unknown_harness", `"${harness}" is no harness`);
  }
  if (offered.includes(known)) return;
  throw new DecoError("capability_missing", `this version can't run ${harness} in a sandbox`, {
    fix: `Use one of ${offered.join(", ")}.`,
    extensions: { activeCapabilities: offered },
  });
}

/** @throws isolation_unavailable */
export function checkSpec(spec: SandboxSpec, provider: ProviderName): void {
  const { tier, workspace, template, image, egress } = spec;
  if (tier === 1 || tier === 3 || tier === 4) refuse(`tier ${tier}`);
  if (workspace && workspace.mode !== "none") refuse(`workspace mode "${workspace.mode}"`);
  if (template !== undefined) refuse(`template "${template}"`);
  if (provider !== "process") return;
  if (image !== undefined) refuse(`image "${image}" with the process provider`);
  if (egress === "open") refuse(`egress "open" with the process provider`);
}

function refuse(what: string): never {
  throw new DecoError("isolation_unavailable", `${what} can't be had here`);
}

function orThrow(name: ProviderName | DecoError): ProviderName {
  if (name instanceof DecoError) throw name;
  return name;
}
