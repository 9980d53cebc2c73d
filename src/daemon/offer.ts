import { DecoError } from "../protocol/errors.ts";
import type { Capability, ProviderName } from "../protocol/messages.ts";
import type { ProviderProbe, SandboxProvider } from "../sandbox/provider.ts";
import { type CapabilityProbe, capabilityTable } from "./capabilities.ts";
import {
  harnessCapabilities,
  type LaptopHarnesses,
  laptopHarnesses,
} from "./capabilities-harness.ts";
import { virtualboxProbe } from "./capabilities-programs.ts";
import {
  chooseProvider,
  type ProviderChoice,
  type ProviderMemory,
  readProviderMemory,
  writeProviderMemory,
} from "./choose-provider.ts";
import { type Config, processEnv } from "./config.ts";
import type { Log } from "./log.ts";

/** What this laptop offers now, and what it uses when nobody says. Reading waits for nobody. */
export interface Offer {
  readonly capabilities: () => readonly Capability[];
  readonly choice: () => ProviderChoice;
  /** For the executor: the default provider, or why there is none. */
  readonly defaultProvider: () => ProviderName | DecoError;
  /** Why a provider can't be used now, by the newest probe. */
  readonly checkProvider: (name: ProviderName) => DecoError | undefined;
  /** Whether a provider has ever worked here, so that it may hold sandboxes of ours. */
  readonly mayHold: (name: ProviderName) => boolean;
  /** Looks again at everything. */
  readonly refresh: (signal: AbortSignal) => Promise<void>;
}

export interface OfferOptions {
  readonly config: Config;
  readonly providers: ReadonlyMap<ProviderName, SandboxProvider>;
  readonly log: Log;
  readonly onChange: () => void;
}

/** Agents on the laptop are started for their version: half a second of CPU each. */
const LAPTOP_EVERY_MS = 600_000;
const NOT_YET: ProviderChoice = { reason: "the providers were not looked at yet" };

export async function createOffer(options: OfferOptions): Promise<Offer> {
  const { config, providers, log, onChange } = options;
  const env = processEnv();
  const probes = new Map<ProviderName, ProviderProbe>();
  let memory: ProviderMemory = await readProviderMemory(config.paths.providerFile);
  let choice = NOT_YET;
  let laptop: LaptopHarnesses | undefined;
  let laptopLookAtMs = 0;
  const table = capabilityTable({
    probes: [
      ...[...providers.values()].map((provider) => providerProbe(provider, probes)),
      virtualboxProbe({ env }),
    ],
    deadlineMs: 8000,
    onChange,
  });
  const lookAtLaptop = async (signal: AbortSignal) => {
    if (laptop !== undefined && Date.now() < laptopLookAtMs) return;
    laptop = await laptopHarnesses(env, signal);
    laptopLookAtMs = Date.now() + LAPTOP_EVERY_MS;
  };
  const refresh = async (signal: AbortSignal) => {
    await Promise.all([lookAtLaptop(signal), table.refresh(signal)]);
    // Once made, a choice stays: what is lost later never makes something weaker the default.
    if (choice.provider === undefined) {
      choice = chooseProvider({
        probes,
        preference: config.provider,
        remembered: memory.default,
        allowUnconfined: config.allowUnconfined,
      });
      log.info({ ...choice }, "provider of sandboxes that name none");
    }
    const next = remember(memory, choice, probes);
    if (next === memory) return;
    memory = next;
    await writeProviderMemory(config.paths.providerFile, memory);
  };
  return {
    capabilities: () => {
      const seen = table.current();
      const ours = seen.filter(({ name }) => name !== "virtualbox");
      return [...seen, ...harnessCapabilities({ providers: ours, laptop, models: config.models })];
    },
    choice: () => choice,
    defaultProvider: () => choice.provider ?? missing("isolation_unavailable", choice),
    checkProvider: (name) => {
      const found = table.current().find((capability) => capability.name === name);
      if (found === undefined || found.available === false) return unavailable(name, found);
      return unconfined(name, probes, config);
    },
    mayHold: (name) => memory.seen.includes(name),
    refresh,
  };
}

function providerProbe(
  provider: SandboxProvider,
  probes: Map<ProviderName, ProviderProbe>,
): CapabilityProbe {
  const { name } = provider;
  return {
    name,
    async probe(signal) {
      const found = await provider.probe(signal);
      probes.set(name, found);
      const { details: { mark: _mark, sameKernel: _kernel, ...details } = {}, ...rest } = found;
      return { name, ...rest, ...details };
    },
  };
}

function remember(
  memory: ProviderMemory,
  { provider }: ProviderChoice,
  probes: ReadonlyMap<ProviderName, ProviderProbe>,
): ProviderMemory {
  const working = [...probes].filter(([, probe]) => probe.available).map(([name]) => name);
  const seen = [...new Set([...memory.seen, ...working])];
  if (seen.length === memory.seen.length && memory.default === provider) return memory;
  return { seen, ...(provider === undefined ? {} : { default: provider }) };
}

function unavailable(name: ProviderName, found: Capability | undefined): DecoError {
  return missing("isolation_unavailable", {
    reason: `${name} sandboxes can't be had here: ${found?.reason ?? "unknown"}`,
    ...(found?.fix === undefined ? {} : { fix: found.fix }),
  });
}

function unconfined(
  name: ProviderName,
  probes: ReadonlyMap<ProviderName, ProviderProbe>,
  { allowUnconfined }: Config,
): DecoError | undefined {
  const probe = probes.get(name);
  if (probe === undefined || probe.confined || allowUnconfined) return undefined;
  return new DecoError("unconfined_refused", probe.reason ?? `${name} confines nothing here`);
}

function missing(code: "isolation_unavailable", { reason, fix }: ProviderChoice): DecoError {
  return new DecoError(code, reason, fix === undefined ? {} : { fix });
}
