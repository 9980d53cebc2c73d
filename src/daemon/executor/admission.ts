import { DecoError } from "../../protocol/errors.ts";
import {
  type DispatchRun,
  HARNESSES,
  type HarnessName,
  type ProviderName,
} from "../../protocol/messages.ts";
import { refuseForProcess } from "../../sandbox/drivers/process/refuse.ts";
import type { SandboxProvider } from "../../sandbox/provider.ts";
import { type ResolvedSpec, wantedSandbox } from "../../sandbox/sandbox-spec.ts";

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
 * @param spec what the dispatch's sandbox object means on this laptop
 * @throws unknown_harness, harness_missing, capability_missing, isolation_unavailable, and what
 * `defaultProvider` or `checkProvider` say
 */
export function admit(
  { harness }: DispatchRun,
  spec: ResolvedSpec,
  rules: AdmissionRules,
): SandboxProvider {
  checkHarness(harness, rules.harnesses);
  const { template = "", harnesses } = spec.facts ?? {};
  if (harnesses !== undefined && !harnesses.some((name) => name === harness)) {
    const detail = `template "${template}" has ${harnesses.join(", ")}, not ${harness}`;
    throw new DecoError("harness_missing", detail, { fix: "Use another template." });
  }
  return providerFor(spec, rules);
}

/** @throws capability_missing, isolation_unavailable, and why the provider can't be used */
export function providerFor(
  spec: ResolvedSpec,
  rules: Omit<AdmissionRules, "harnesses">,
): SandboxProvider {
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

/** What its driver would refuse, said before anything is promised. @throws isolation_unavailable */
function checkSpec(spec: ResolvedSpec, provider: ProviderName): void {
  wantedSandbox(spec, provider, { egress: provider === "process" ? "none" : "open" });
  if (provider !== "process") return;
  refuseForProcess(spec);
  if (spec.egress !== "open") return;
  throw new DecoError("isolation_unavailable", `the process provider has no egress "open"`);
}

function orThrow(name: ProviderName | DecoError): ProviderName {
  if (name instanceof DecoError) throw name;
  return name;
}
