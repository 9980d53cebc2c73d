import { HubClock } from "../protocol/hub-clock.ts";
import { NonceCache } from "../protocol/nonces.ts";
import type { EngineMemory } from "../sandbox/drivers/docker/engine/engine-mark.ts";
import { OWNERS } from "../sandbox/owner.ts";
import type { SandboxProvider } from "../sandbox/provider.ts";
import { createProviders } from "../sandbox/providers.ts";
import { isThreadless } from "./close-sandboxes.ts";
import type { Config } from "./config.ts";
import { controlApp } from "./control/app.ts";
import { type SigningSession, signed } from "./control/signed.ts";
import { type EnsureGate, ensureGate } from "./ensure-gate.ts";
import { providerFor } from "./executor/admission.ts";
import { createExecutor, type Executor } from "./executor/run-executor.ts";
import { type Identity, openIdentity } from "./identity.ts";
import { idleTimesFile } from "./idle-times.ts";
import { openInstance } from "./instance.ts";
import { type Journal, openJournal } from "./journal.ts";
import type { Log } from "./log.ts";
import { createModelProxy } from "./model-proxy/model-proxy.ts";
import { createOffer, type Offer } from "./offer.ts";
import { createPrune } from "./prune.ts";
import { createReconcile, type Reconcile } from "./reconcile.ts";
import { rulesOf, type SandboxRules } from "./sandbox-rules.ts";
import { createSandboxes } from "./sandboxes.ts";
import type { StatusSnapshot } from "./status.ts";
import type { LinkSession } from "./supervise-state.ts";
import { openEngineMemory } from "./used-engines.ts";

/** Everything of a daemon that neither listens nor dials. */
export interface DaemonParts {
  readonly identity: Identity;
  readonly journal: Journal;
  readonly executor: Executor;
  readonly offer: Offer;
  readonly reconcile: Reconcile;
  readonly clock: HubClock;
  readonly providers: ReturnType<typeof createProviders>;
  /** What is made for no run. */
  readonly ensures: EnsureGate;
  /** For local programs: checks no signature. */
  readonly app: ReturnType<typeof controlApp>;
  readonly signedApp: ReturnType<typeof controlApp>;
  /** From now on this session's signatures count, and no other's. */
  readonly useSession: (session: LinkSession | undefined) => void;
}

export interface DaemonPartsOptions {
  readonly config: Config;
  readonly log: Log;
  readonly status: () => StatusSnapshot;
  readonly onOfferChange: () => void;
}

export async function buildParts(options: DaemonPartsOptions): Promise<DaemonParts> {
  const { config, log, status, onOfferChange } = options;
  const { paths } = config;
  const rules = rulesOf(paths);
  const identity = await openIdentity(paths.machineFile);
  const { instanceId, modelTokenKey } = await openInstance(paths.instanceFile);
  const engines = await openEngineMemory(paths.enginesFile, log);
  const providers = providersOf({ config, instanceId, engines, log });
  const offer = await createOffer({ config, providers, log, onChange: onOfferChange });
  const journal = openJournal({ path: paths.journalFile });
  const modelProxy = createModelProxy({ upstreams: config.models, tokenKey: modelTokenKey, log });
  const executor = createExecutor({
    journal,
    providers,
    rules,
    defaultProvider: offer.defaultProvider,
    checkProvider: offer.checkProvider,
    modelProxy: {
      ...modelProxy,
      openSandbox: (runDir, uid) => modelProxy.openSandbox({ runDir, uid }),
    },
    limits: { maxRuns: config.maxRuns },
    instanceId,
    onLeft: (handle, signal) => {
      if (isThreadless(handle)) void reconcile.trim(signal);
    },
    log,
  });
  const ensures = ensureGate();
  const sandboxes = sandboxesOf({ providers, executor, offer, rules, ensures });
  const held = heldOf({ providers, executor, offer });
  const reconcile: Reconcile = createReconcile({ ...held, ...idleSettings(config, log), log });
  const app = controlApp({
    status,
    log,
    journal,
    runs: executor,
    sandboxes,
    prune: createPrune(held),
  });
  const clock = new HubClock({ now: Date.now });
  let signing: SigningSession | undefined;
  return {
    identity,
    journal,
    executor,
    offer,
    reconcile,
    clock,
    providers,
    ensures,
    app,
    signedApp: signed({ app, session: () => signing, now: () => clock.now() }),
    useSession: (session) => {
      signing = session && signingSession(session, clock);
    },
  };
}

/** Sandboxes that are there, by whom, and how they are looked at and removed. */
function heldOf(o: {
  providers: ReturnType<typeof createProviders>;
  executor: Executor;
  offer: Offer;
}) {
  const { providers, executor, offer } = o;
  return {
    providers: () => [...providers.values()].filter(({ name }) => offer.mayHold(name)),
    busy: (handle: string) => executor.isBusy(handle),
    remove: (provider: SandboxProvider, handle: string, signal: AbortSignal) =>
      executor.sandboxes.remove(provider, handle, signal),
    failLost: (signal: AbortSignal) => executor.failLost(signal),
  };
}

function idleSettings({ keepSandboxes, idleMinutes, paths }: Config, log: Log) {
  return { keep: keepSandboxes, idleMinutes, times: idleTimesFile(paths.idleFile, log) };
}

function providersOf(o: { config: Config; instanceId: string; engines: EngineMemory; log: Log }) {
  const { config, instanceId, engines, log } = o;
  return createProviders({
    instanceId,
    runRoot: config.paths.runRoot,
    cacheDir: config.paths.cache,
    log,
    allowUnconfined: config.allowUnconfined,
    pausePool: config.pausePool,
    warmSandboxes: config.warmSandboxes,
    warmMemoryMib: config.warmMemoryMib,
    dockerHost: config.dockerHost,
    dockerEnv: config.dockerEnv,
    engines,
  });
}

/** Nonces are per session: what was captured before a restart has another epoch and key. */
function signingSession({ linkId, epoch, signingKey }: LinkSession, clock: HubClock) {
  const nonces = new NonceCache({ now: () => clock.now() });
  return { linkId, epoch, key: signingKey, nonces };
}

function sandboxesOf(o: {
  providers: ReturnType<typeof createProviders>;
  executor: Executor;
  offer: Offer;
  rules: SandboxRules;
  ensures: EnsureGate;
}) {
  const { providers, executor, offer, rules, ensures } = o;
  return createSandboxes({
    providers,
    mayHold: offer.mayHold,
    busy: (handle) => executor.isBusy(handle),
    allowHub: (info) => rules.allowHub(info),
    sharesLocal: () => rules.sharesLocal(),
    heldLocally: (handle) => executor.isBusy(handle, OWNERS.local),
    endRuns: (handle, signal) => executor.endRunsIn(handle, signal),
    ensure: async (handle, asked, { local, signal }) => {
      const spec = rules.resolve(asked, { local });
      const { defaultProvider, checkProvider } = offer;
      const provider = providerFor(spec, { providers, defaultProvider, checkProvider });
      const inUse = () => executor.isBusy(handle);
      const owner = local ? OWNERS.local : OWNERS.hub;
      const wanted = { provider, handle, owner, spec, inUse };
      return await ensures.run(signal, (within) =>
        executor.sandboxes.ensure({ ...wanted, signal: within }),
      );
    },
    remove: (provider, handle, signal) => executor.sandboxes.remove(provider, handle, signal),
  });
}
