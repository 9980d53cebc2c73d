import { DecoError } from "../protocol/errors.ts";
import type { ProviderName, SandboxSpec } from "../protocol/messages.ts";
import { handleTaken, isHiddenFromHubs } from "../sandbox/owner.ts";
import type {
  ExecChunk,
  HarnessEndpoint,
  SandboxInfo,
  SandboxProvider,
} from "../sandbox/provider.ts";
import { untilAbort } from "../sandbox/until-abort.ts";
import type { SandboxFiles } from "../sandbox/workspace/sandbox-files.ts";

/** All sandboxes of this laptop, whichever provider made them. */
export interface Sandboxes {
  /**
   * @throws what the provider throws; `isolation_unavailable` without a provider; policy_denied,
   * which depends on whether it came over the laptop's own socket (`local`)
   */
  ensure(
    handle: string,
    spec: SandboxSpec,
    o: { local: boolean; signal: AbortSignal },
  ): Promise<{ info: SandboxInfo; created: boolean }>;
  /** Waits for no engine longer than a moment: one that does not answer is named in `errors`. */
  list(signal: AbortSignal): Promise<{ sandboxes: SandboxInfo[]; errors: ListError[] }>;
  /** @throws sandbox_not_found */
  inspect(handle: string, signal: AbortSignal): Promise<SandboxInfo>;
  /** Gone already is success. @throws sandbox_busy while a run is active in it, unless forced. */
  remove(handle: string, o: { force: boolean }, signal: AbortSignal): Promise<void>;
  /**
   * The files of one sandbox, whichever provider has it.
   *
   * @throws sandbox_not_found, isolation_unavailable
   */
  files(handle: string, signal: AbortSignal): Promise<SandboxFiles>;
  /** Before a hub reaches into it. @throws sandbox_not_found, policy_denied */
  allowHub(handle: string, signal: AbortSignal): Promise<void>;
  /** @throws sandbox_not_found */
  endpoint(handle: string, signal: AbortSignal): Promise<HarnessEndpoint>;
  /** The last lines of init and harnessd. @throws sandbox_not_found, isolation_unavailable */
  logs(handle: string, lines: number, signal: AbortSignal): Promise<string>;
  /** A program inside; see the provider's. @throws sandbox_not_found, isolation_unavailable */
  exec(
    handle: string,
    command: readonly string[],
    signal: AbortSignal,
  ): Promise<AsyncIterable<ExecChunk>>;
}

/** What the laptop's own programs may, and what a hub may. */
export interface AllSandboxes extends Sandboxes {
  /** Without the owner's own: as if they were not there, unless his policy shares them. */
  readonly forHub: Sandboxes;
}

/** A provider whose sandboxes could not be listed. */
export interface ListError {
  readonly provider: ProviderName;
  readonly code: string;
  readonly detail: string;
  readonly fix: string;
}

export interface SandboxesOptions {
  readonly providers: ReadonlyMap<ProviderName, SandboxProvider>;
  /** Makes a sandbox as a run would: same choice of provider, same checks, same model socket. */
  readonly ensure: (
    handle: string,
    spec: SandboxSpec,
    o: { local: boolean; signal: AbortSignal },
  ) => Promise<SandboxInfo>;
  readonly remove: (
    provider: SandboxProvider,
    handle: string,
    signal: AbortSignal,
  ) => Promise<void>;
  /** Whether this provider may hold sandboxes of ours: one that never worked here can't. */
  readonly mayHold: (name: ProviderName) => boolean;
  /** The owner's rules for hubs; throws policy_denied. All may when absent. */
  readonly allowHub?: (info: SandboxInfo) => void;
  /** Whether the policy shares the owner's own sandboxes with hubs. It does not when absent. */
  readonly sharesLocal?: () => boolean;
  /** Whether a run of the laptop's owner works, or waits to work, in this sandbox. */
  readonly heldLocally?: (handle: string) => boolean;
  /** Cancels the runs in a sandbox and waits for their ends. */
  readonly endRuns: (handle: string, signal: AbortSignal) => Promise<void>;
  /** Whether a run that has not ended uses this sandbox. */
  readonly busy: (handle: string) => boolean;
}

/** harnessd needs 12 s for the ends of its runs (LESSONS 39). */
const END_RUNS_MS = 15_000;

export function createSandboxes(options: SandboxesOptions): AllSandboxes {
  const { sharesLocal = () => false, heldLocally = () => false } = options;
  const forHub: Sight = {
    sees: ({ owner }) => !isHiddenFromHubs(owner) || sharesLocal(),
    taken: (handle) => heldLocally(handle) && !sharesLocal(),
  };
  return {
    ...asSeen(options, { sees: () => true, taken: () => false }),
    forHub: asSeen(options, forHub),
  };
}

/** What somebody may know of. */
interface Sight {
  readonly sees: (info: SandboxInfo) => boolean;
  /** Whether a handle is another's though it may have no sandbox yet. */
  readonly taken: (handle: string) => boolean;
}

function asSeen(options: SandboxesOptions, { sees, taken }: Sight): Sandboxes {
  const { ensure, busy } = options;
  const find = async (handle: string, signal: AbortSignal) => {
    const found = await findSandbox(options, handle, signal);
    return found !== undefined && sees(found.info) ? found : undefined;
  };
  return {
    async ensure(handle, spec, o) {
      const before = await findSandbox(options, handle, o.signal);
      if (before === undefined ? taken(handle) : !sees(before.info)) throw handleTaken(handle);
      const info = await ensure(handle, spec, o);
      return { info, created: before === undefined };
    },
    async list(signal) {
      const { sandboxes, errors } = await listAll(options, signal);
      return { sandboxes: sandboxes.filter(sees), errors };
    },
    async inspect(handle, signal) {
      return existing(await find(handle, signal), handle).info;
    },
    async remove(handle, { force }, signal) {
      if (taken(handle) && (await find(handle, signal)) === undefined) return;
      if (busy(handle) && !force) throw hasRun(handle);
      if (busy(handle)) await endRuns(options, handle, signal);
      const found = await find(handle, signal);
      if (found !== undefined) await options.remove(found.provider, handle, signal);
    },
    async files(handle, signal) {
      const { provider } = existing(await find(handle, signal), handle);
      if (provider.files !== undefined) return provider.files;
      throw new DecoError("isolation_unavailable", `${provider.name} sandboxes take no files`);
    },
    async allowHub(handle, signal) {
      options.allowHub?.(existing(await find(handle, signal), handle).info);
    },
    async endpoint(handle, signal) {
      const { provider } = existing(await find(handle, signal), handle);
      return provider.endpoint(handle, signal);
    },
    async logs(handle, lines, signal) {
      const { provider } = existing(await find(handle, signal), handle);
      return (await provider.logs?.(handle, lines, signal)) ?? hasNone(provider, "logs");
    },
    async exec(handle, command, signal) {
      const { provider, info } = existing(await find(handle, signal), handle);
      if (info.status === "unknown") {
        const detail = `the state of sandbox ${handle} is not known: its engine does not answer`;
        throw new DecoError("docker_unavailable", detail);
      }
      if (info.status !== "running") {
        throw new DecoError("sandbox_lost", `sandbox ${handle} is ${info.status}`, {
          fix: "Start a run in it, which starts the sandbox again.",
        });
      }
      return provider.exec?.(handle, command, signal) ?? hasNone(provider, "exec");
    },
  };
}

function hasRun(handle: string): DecoError {
  return new DecoError("sandbox_busy", `${handle} has one that has not ended`, {
    fix: "Cancel its run (`deco runs cancel ID`), or add --force (`?force=true`), which does.",
  });
}

/** Who asks for a list looks at a screen. */
const LIST_MS = 1_000;
/** For a provider that does not keep its own deadline; it gives what it knows at that. */
const LIST_AT_LAST_MS = 1_500;

async function listAll({ providers, mayHold }: SandboxesOptions, signal: AbortSignal) {
  const within = AbortSignal.any([signal, AbortSignal.timeout(LIST_AT_LAST_MS)]);
  const asked = [...providers.values()];
  const lists = await Promise.allSettled(
    asked.map((one) => untilAbort(one.list(within, { deadlineMs: LIST_MS }), within)),
  );
  signal.throwIfAborted();
  const errors = lists.flatMap((list, index): ListError[] => {
    const provider = asked[index]?.name;
    if (list.status === "fulfilled" || provider === undefined || !mayHold(provider)) return [];
    const { code, message, fix } =
      list.reason === within.reason
        ? new DecoError(
            provider === "docker" ? "docker_unavailable" : "sandbox_failed",
            `${provider} did not list its sandboxes within ${LIST_AT_LAST_MS} ms`,
          )
        : DecoError.from(list.reason);
    return [{ provider, code, detail: message, fix }];
  });
  const sandboxes = lists.flatMap((list) => (list.status === "fulfilled" ? list.value : []));
  return { sandboxes, errors };
}

/** Runs get their terminal events before the sandbox goes; one that takes too long does not hold it. */
async function endRuns(
  options: SandboxesOptions,
  handle: string,
  signal: AbortSignal,
): Promise<void> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(END_RUNS_MS)]);
  await options.endRuns(handle, within).catch(() => signal.throwIfAborted());
}

interface Found {
  readonly provider: SandboxProvider;
  readonly info: SandboxInfo;
}

/**
 * Asks every provider. One that does not answer hides no other's sandbox, but it makes "there is
 * none" unknown, which is an error, not a fact (LESSONS 27).
 */
async function findSandbox(
  { providers, mayHold }: SandboxesOptions,
  handle: string,
  signal: AbortSignal,
): Promise<Found | undefined> {
  const asked = [...providers.values()];
  const looks = await Promise.allSettled(asked.map((p) => p.inspect(handle, signal)));
  signal.throwIfAborted();
  for (const [index, provider] of asked.entries()) {
    const look = looks[index];
    if (look?.status === "fulfilled" && look.value) return { provider, info: look.value };
  }
  for (const [index, { name }] of asked.entries()) {
    const look = looks[index];
    if (look?.status === "rejected" && mayHold(name)) throw DecoError.from(look.reason);
  }
  return undefined;
}

function hasNone({ name }: SandboxProvider, what: string): never {
  throw new DecoError("isolation_unavailable", `the ${name} provider has no ${what}`);
}

function existing(found: Found | undefined, handle: string): Found {
  if (found !== undefined) return found;
  throw new DecoError("sandbox_not_found", `no sandbox ${handle} here`);
}
