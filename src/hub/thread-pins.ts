import { DecoError } from "../protocol/errors.ts";
import { type CreateRun, PROVIDERS } from "../protocol/messages.ts";
import { normalizeSandboxMap, type SandboxMap, setSandboxEntry } from "../protocol/sandbox-map.ts";
import type { Store } from "./store/open-store.ts";
import type { RunRow } from "./store/runs.ts";
import type { ThreadRow } from "./store/threads.ts";

/** The branch of a thread that named none, as key of the sandbox map. */
const NO_BRANCH = "default";

/**
 * Fits a run to its thread: what the first run fixed wins where the body is silent.
 *
 * @throws DecoError `thread_pinned` where the body disagrees.
 */
export function applyPins(body: CreateRun, thread: ThreadRow | undefined): CreateRun {
  if (thread === undefined) return body;
  agree("harness", thread.harness, body.harness);
  agree("branch", thread.branch ?? null, body.branch);
  const provider = PROVIDERS.find((name) => name === thread.provider);
  if (provider !== undefined) agree("sandbox.provider", provider, body.sandbox?.provider);
  return {
    ...body,
    ...(thread.branch === undefined ? {} : { branch: thread.branch }),
    ...(provider === undefined ? {} : { sandbox: { ...body.sandbox, provider } }),
  };
}

function agree(field: string, pinned: string | null, asked: string | undefined): void {
  if (asked === undefined || asked === pinned) return;
  throw new DecoError(
    "thread_pinned",
    `${field} of this thread is ${pinned ?? "none"}, not ${asked}`,
    {
      extensions: { field, pinned },
    },
  );
}

/** Writes the pins of a thread's first run; call in the transaction that writes the run. */
export function pinThread(store: Store, body: CreateRun, run: RunRow): void {
  if (body.thread === undefined || store.threads.get(run.user, body.thread) !== undefined) return;
  store.threads.put({
    user: run.user,
    threadId: body.thread,
    provider: body.sandbox?.provider,
    harness: body.harness,
    branch: body.branch,
    firstRun: run.runId,
    sandboxMap: {},
    createdAt: run.createdAt,
  });
}

/** Keeps where a run's sandbox is, and the provider that the daemon chose, in the run's thread. */
export function noteSandbox(
  store: Store,
  run: RunRow,
  ready: Readonly<Record<string, unknown>>,
): void {
  const thread = run.thread === undefined ? undefined : store.threads.get(run.user, run.thread);
  const { handle, previewUrl } = ready;
  const provider = PROVIDERS.find((name) => name === ready["provider"]);
  if (thread === undefined || provider === undefined || typeof handle !== "string") return;
  const entry = {
    handle,
    linkId: run.linkId,
    sandboxProviderKind: provider,
    previewUrl: typeof previewUrl === "string" ? previewUrl : null,
  };
  const branch = thread.branch ?? NO_BRANCH;
  const map = normalizeSandboxMap(thread.sandboxMap);
  store.threads.put({
    ...thread,
    provider: thread.provider ?? provider,
    sandboxMap: setSandboxEntry(map, { user: run.user, branch, provider, entry }),
  });
}

/** Links on which the thread has a sandbox already. */
export function linksOfThread(thread: ThreadRow | undefined): ReadonlySet<string> {
  const map = thread === undefined ? {} : normalizeSandboxMap(thread.sandboxMap);
  const entries = Object.values(map).flatMap((branches) =>
    Object.values(branches).flatMap((kinds) => Object.values(kinds)),
  );
  return new Set(entries.flatMap((entry) => (entry.linkId === undefined ? [] : [entry.linkId])));
}

/** Answer of `GET /api/threads/{id}`. */
export interface ThreadView {
  readonly threadId: string;
  readonly pins: {
    readonly sandboxProviderKind: string | null;
    readonly harnessId: string;
    readonly branch: string | null;
  };
  readonly sandboxMap: SandboxMap;
  readonly firstRunId: string;
  readonly createdAt: string;
}

export function threadView(thread: ThreadRow): ThreadView {
  return {
    threadId: thread.threadId,
    pins: {
      sandboxProviderKind: thread.provider ?? null,
      harnessId: thread.harness,
      branch: thread.branch ?? null,
    },
    sandboxMap: normalizeSandboxMap(thread.sandboxMap),
    firstRunId: thread.firstRun,
    createdAt: new Date(thread.createdAt).toISOString(),
  };
}
