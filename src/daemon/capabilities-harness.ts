import { access } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Capability } from "../protocol/messages.ts";
import { isAvailable } from "./capabilities.ts";
import { laptopProgram } from "./capabilities-programs.ts";
import type { ModelUpstreams } from "./config-model.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** A harness as a program on the laptop itself: told for its owner's sake, it is never run there. */
export interface LaptopHarness {
  readonly installed: boolean;
  readonly version?: string;
  readonly signedIn: boolean;
}

export interface LaptopHarnesses {
  readonly claude: LaptopHarness;
  readonly codex: LaptopHarness;
}

/** Looks which agents are installed and signed in on the laptop. */
export async function laptopHarnesses(env: Env, signal: AbortSignal): Promise<LaptopHarnesses> {
  const home = env["HOME"] ?? homedir();
  const [claude, codex] = await Promise.all([
    laptopHarness("claude", join(home, ".claude", ".credentials.json"), env, signal),
    laptopHarness("codex", join(home, ".codex", "auth.json"), env, signal),
  ]);
  return { claude, codex };
}

async function laptopHarness(
  command: string,
  credentials: string,
  env: Env,
  signal: AbortSignal,
): Promise<LaptopHarness> {
  const [program, signedIn] = await Promise.all([
    laptopProgram(command, env, signal),
    access(credentials).then(
      () => true,
      () => false,
    ),
  ]);
  const { installed, version } = program;
  return { installed, signedIn, ...(version === undefined ? {} : { version }) };
}

export interface HarnessFacts {
  /** Of the providers, by the newest probe. */
  readonly providers: readonly Capability[];
  readonly laptop: LaptopHarnesses | undefined;
  readonly models: ModelUpstreams;
}

/** Which harnesses this link can run; `available` means that a run would work. */
export function harnessCapabilities(facts: HarnessFacts): Capability[] {
  return [shellOf(facts), claudeCodeOf(facts), codexOf(facts)];
}

function shellOf({ providers }: HarnessFacts): Capability {
  if (providers.some(isAvailable)) return { name: "shell", available: true };
  return {
    name: "shell",
    available: false,
    reason: "no sandbox provider works here",
    fix: "Start Docker, or install bubblewrap.",
  };
}

function claudeCodeOf({ providers, laptop, models }: HarnessFacts): Capability {
  const base = { name: "claude-code", ...laptopFacts(laptop?.claude) };
  const docker = providers.find(({ name }) => name === "docker");
  if (!isAvailable(docker)) {
    const reason = `it runs in docker sandboxes only: ${docker?.reason ?? "no docker"}`;
    return { ...base, available: false, reason, fix: docker?.fix ?? "Start Docker." };
  }
  if (models.anthropic === undefined) {
    return {
      ...base,
      available: false,
      reason: "the daemon has no access to an Anthropic model",
      fix: "Set ANTHROPIC_API_KEY for the daemon, or model.anthropic in config.json.",
    };
  }
  return { ...base, available: true };
}

function codexOf({ laptop }: HarnessFacts): Capability {
  return {
    name: "codex",
    ...laptopFacts(laptop?.codex),
    available: false,
    reason: "this version has no adapter for codex yet",
    fix: "Use claude-code or shell.",
  };
}

function laptopFacts(harness: LaptopHarness | undefined): object {
  if (harness === undefined) return {};
  const { installed, signedIn, version } = harness;
  return {
    arch: process.arch,
    installed,
    signedIn,
    ...(version === undefined ? {} : { version }),
  };
}
