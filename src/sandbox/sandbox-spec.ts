import { createHash } from "node:crypto";
import { DecoError } from "../protocol/errors.ts";
import type {
  HarnessName,
  ProviderName,
  SandboxSpec,
  WorkspaceSpec,
} from "../protocol/messages.ts";
import type { BuildName, Platform, TemplateFile } from "./templates/template.ts";

export type Tier = 1 | 2 | 3 | 4;

/**
 * What the laptop itself adds to a spec, from its templates, its map of runtimes and the run; never
 * on the wire.
 */
export interface SpecFacts {
  /** Names that the request used, for lists and messages. */
  readonly template?: string;
  readonly runtime?: string;
  /** One of our own builds instead of an image. */
  readonly build?: BuildName;
  /** The same for pull, build and create. */
  readonly platform?: Platform;
  /** The image is one that the laptop's owner names: it may be asked of its registry. */
  readonly pull?: boolean;
  readonly labels?: readonly string[];
  readonly harnesses?: readonly HarnessName[];
  /** Until a started sandbox must answer, in milliseconds. */
  readonly readyBudgetMs?: number;
  /** By path below the workspace. */
  readonly files?: Readonly<Record<string, TemplateFile>>;
  readonly requires?: { readonly env: readonly string[]; readonly files: readonly string[] };
  /** Hex digits that stand for the user and the thread of the run. */
  readonly threadKey?: string;
}

/** A spec whose template and runtime were resolved: what providers take. */
export interface ResolvedSpec extends SandboxSpec {
  readonly facts?: SpecFacts;
}

/**
 * A spec with every default filled in: what a driver builds, and what its hash stands for. No
 * environment: that goes to the harness with each run, and makes no sandbox another one.
 */
export interface WantedSandbox {
  /** A reference that the engine knows; undefined: a build of ours. */
  readonly image: string | undefined;
  /** Which build of ours; undefined without an image: what the harness needs. */
  readonly build: BuildName | undefined;
  readonly platform: Platform | undefined;
  /** Whether a missing image may be asked of its registry. */
  readonly pull: boolean;
  readonly tier: Tier;
  /** `mode: "none"` is a volume of the sandbox's own. */
  readonly workspace: WorkspaceSpec;
  readonly memoryMib: number | undefined;
  readonly cpus: number;
  readonly pids: number;
  readonly egress: "none" | "open";
  /** Ports inside to publish on 127.0.0.1, in order, each once. */
  readonly ports: readonly number[];
  /** The private network of its thread, and its own name there. */
  readonly threadNetwork: { readonly key: string; readonly name: string | undefined } | undefined;
  readonly labels: readonly string[];
  readonly files: Readonly<Record<string, TemplateFile>>;
  readonly requires: { readonly env: readonly string[]; readonly files: readonly string[] };
  /** Until a started sandbox must answer; undefined: the provider's own. */
  readonly readyBudgetMs: number | undefined;
  /** 16 hex digits over all of the above but what is only asked for: requires, readyBudgetMs. */
  readonly hash: string;
}

/** Unknown tiers and zero are 2. */
export function tierOf(tier: number | undefined): Tier {
  return tier === 1 || tier === 3 || tier === 4 ? tier : 2;
}

/**
 * Fills in defaults and refuses what can't be had together; nothing is ignored.
 *
 * @throws isolation_unavailable
 */
export function wantedSandbox(
  spec: ResolvedSpec,
  provider: ProviderName,
  defaults: { egress: "none" | "open" },
): WantedSandbox {
  const { facts = {} } = spec;
  const refuse = (what: string): never => {
    throw new DecoError("isolation_unavailable", `the ${provider} provider has no ${what}`);
  };
  if (spec.provider !== undefined && spec.provider !== provider) refuse(`"${spec.provider}"`);
  if (spec.template !== undefined) refuse(`template "${spec.template}"`);
  if (spec.runtime !== undefined) refuse(`runtime "${spec.runtime}"`);
  const tier = tierOf(spec.tier);
  const wanted = {
    image: spec.image,
    build: facts.build,
    platform: facts.platform,
    pull: facts.pull === true,
    tier,
    workspace: workspaceOf(spec),
    memoryMib: spec.resources?.memoryMib,
    cpus: spec.resources?.cpus ?? 1,
    pids: spec.resources?.pids ?? 128,
    egress: spec.egress ?? (tier === 1 ? "none" : defaults.egress),
    ports: [...new Set(spec.ports)].toSorted((a, b) => a - b),
    threadNetwork: threadNetworkOf(spec),
    labels: facts.labels ?? [],
    files: facts.files ?? {},
    requires: facts.requires ?? { env: [], files: [] },
    readyBudgetMs: facts.readyBudgetMs,
  };
  checkTogether(wanted);
  return { ...wanted, hash: hashOf(wanted) };
}

/** @throws run_conflict when an existing sandbox was made from another spec. */
export function sameSpec(handle: string, existing: string | undefined, wanted: string): void {
  if (existing === wanted) return;
  throw new DecoError("run_conflict", `sandbox ${handle} exists with another spec`, {
    fix: `Ask for it as it was made (a template may have changed since), take another thread or branch, or remove it with its files: \`deco sandbox rm ${handle}\`.`,
  });
}

/**
 * Of a spec what its container is made from: environment, files, clone and archive come in when it
 * is ready, for whoever it is then.
 */
export function madeFrom(wanted: WantedSandbox): WantedSandbox {
  const { mode } = wanted.workspace;
  const onHost = mode === "read_only" || mode === "read_write";
  const bare = {
    ...wanted,
    env: {},
    files: {},
    requires: { env: [], files: [] },
    ...(onHost ? {} : { workspace: { mode: "none" } as const }),
  };
  return { ...bare, hash: hashOf(bare) };
}

/** Memory in MiB: what was asked for, else what the harness needs. */
export function memoryMibOf(wanted: WantedSandbox, harness: string | undefined): number {
  return wanted.memoryMib ?? (harness === "claude-code" ? 1024 : 512);
}

/** An archive's name is the run's, not the sandbox's: the next run waits for another one. */
function workspaceOf({ workspace = { mode: "none" } }: ResolvedSpec): WorkspaceSpec {
  return workspace.mode === "archive" ? { mode: "archive" } : workspace;
}

function threadNetworkOf({ network, facts }: ResolvedSpec): WantedSandbox["threadNetwork"] {
  if (network === undefined) return undefined;
  if (facts?.threadKey === undefined) cannot("a thread's network without a thread");
  return { key: facts.threadKey, name: network.name };
}

type Unhashed = Omit<WantedSandbox, "hash">;

/** What no driver can give, whatever it is. */
function checkTogether({ tier, egress, ports, workspace, threadNetwork }: Unhashed): void {
  const hostPath = workspace.mode === "read_only" || workspace.mode === "read_write";
  if (tier === 1 && egress === "open") cannot("a network in tier 1");
  if (tier === 1 && threadNetwork !== undefined) cannot("a thread's network in tier 1");
  if (tier === 1 && hostPath) cannot("a folder of the host in tier 1");
  if (tier === 4 && egress === "none") cannot(`egress "none" on the host's network (tier 4)`);
  if (tier === 4 && threadNetwork !== undefined) cannot("a thread's network in tier 4");
  if (tier === 4 && ports.length > 0) cannot("published ports on the host's network (tier 4)");
  if (egress === "none" && ports.length > 0) cannot(`published ports with egress "none"`);
}

function cannot(what: string): never {
  throw new DecoError("isolation_unavailable", `there is no such thing as ${what}`);
}

/** What is at its default leaves no trace, so that sandboxes of before keep their hash. */
function hashOf(wanted: Unhashed): string {
  const { build, platform, workspace, ports, threadNetwork, labels, files } = wanted;
  const { image, tier, memoryMib, cpus, pids, egress } = wanted;
  const added = {
    ...(build === undefined ? {} : { build }),
    ...(platform === undefined ? {} : { platform }),
    ...(workspace.mode === "none" ? {} : { workspace }),
    ...(ports.length === 0 ? {} : { ports }),
    ...(threadNetwork === undefined ? {} : { threadNetwork }),
    ...(labels.length === 0 ? {} : { labels }),
    ...(Object.keys(files).length === 0 ? {} : { files: sorted(files) }),
  };
  const hashed = { image, tier, env: {}, memoryMib, cpus, pids, egress, ...added };
  return createHash("sha256").update(JSON.stringify(hashed)).digest("hex").slice(0, 16);
}

function sorted<T>(record: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
