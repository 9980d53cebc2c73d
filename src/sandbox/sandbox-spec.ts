import { createHash } from "node:crypto";
import { DecoError } from "../protocol/errors.ts";
import type { ProviderName, SandboxSpec } from "../protocol/messages.ts";

/** A spec with every default filled in: what a driver builds, and what its hash stands for. */
export interface WantedSandbox {
  readonly image: string | undefined;
  readonly tier: 1 | 2;
  readonly env: Readonly<Record<string, string>>;
  readonly memoryMib: number | undefined;
  readonly cpus: number;
  readonly pids: number;
  readonly egress: "none" | "open";
  /** 16 hex digits over all of the above. */
  readonly hash: string;
}

/**
 * Fills in defaults and refuses what this version can't honour; nothing is ignored.
 *
 * @throws isolation_unavailable
 */
export function wantedSandbox(
  spec: SandboxSpec,
  provider: ProviderName,
  defaults: { egress: "none" | "open" },
): WantedSandbox {
  const refuse = (what: string): never => {
    throw new DecoError("isolation_unavailable", `the ${provider} provider has no ${what}`);
  };
  if (spec.provider !== undefined && spec.provider !== provider) refuse(`"${spec.provider}"`);
  if (spec.template !== undefined) refuse("templates");
  if (spec.workspace !== undefined && spec.workspace.mode !== "none") {
    refuse(`workspace mode "${spec.workspace.mode}" in this version`);
  }
  // Unknown tiers and zero mean 2; 3 and 4 are the owner's to allow, and not built yet.
  const tier = spec.tier === 1 ? 1 : 2;
  if (spec.tier === 3 || spec.tier === 4) refuse(`tier ${spec.tier} in this version`);
  const wanted = {
    image: spec.image,
    tier,
    env: sorted(spec.env ?? {}),
    memoryMib: spec.resources?.memoryMib,
    cpus: spec.resources?.cpus ?? 1,
    pids: spec.resources?.pids ?? 128,
    egress: spec.egress ?? defaults.egress,
  } as const;
  const hash = createHash("sha256").update(JSON.stringify(wanted)).digest("hex").slice(0, 16);
  return { ...wanted, hash };
}

/** @throws run_conflict when an existing sandbox was made from another spec. */
export function sameSpec(handle: string, existing: string | undefined, wanted: string): void {
  if (existing === wanted) return;
  throw new DecoError("run_conflict", `sandbox ${handle} exists with another spec`, {
    fix: "Delete it (`deco sandbox rm`), use its own spec, or another handle.",
  });
}

/** Memory in MiB: what was asked for, else what the harness needs. */
export function memoryMibOf(wanted: WantedSandbox, harness: string | undefined): number {
  return wanted.memoryMib ?? (harness === "claude-code" ? 1024 : 512);
}

function sorted(env: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
