import { DecoError } from "../../../protocol/errors.ts";
import { hostPlatform } from "../../images/target.ts";
import { type ResolvedSpec, tierOf } from "../../sandbox-spec.ts";

/** @throws isolation_unavailable for what no process of this machine can be given, confined or not */
export function refuseForProcess(spec: ResolvedSpec): void {
  const { facts, tier, ports = [], network, workspace } = spec;
  if (spec.image !== undefined) refuse("images");
  // Its programs are this machine's own, and harnessd is in none of its images.
  if (facts?.build !== undefined && facts.build !== "harnessd") refuse(`image "${facts.build}"`);
  const { platform = hostPlatform() } = facts ?? {};
  if (platform !== hostPlatform()) refuse(`programs for ${platform}`);
  if (facts?.runtime !== undefined) refuse(`runtime "${facts.runtime}"`);
  if (tierOf(tier) !== 2) refuse(`tier ${tier}: what it makes is tier 2`);
  if (ports.length > 0) refuse("published ports");
  if (network !== undefined) refuse("network of a thread");
  const { mode = "none" } = workspace ?? {};
  if (mode === "git") refuse(`workspace mode "git": it has no network to clone over`);
  if (mode === "read_only" || mode === "read_write") refuse(`workspace mode "${mode}"`);
}

export function refuse(what: string): never {
  throw new DecoError("isolation_unavailable", `the process provider has no ${what}`);
}
