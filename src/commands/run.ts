import { randomUUID } from "node:crypto";
import { DecoError } from "../protocol/errors.ts";
import { EnvName } from "../protocol/messages.ts";
import { type RunEvent, terminalStatus } from "../protocol/run-events.ts";
import type { Command, CommandContext } from "./command.ts";
import { findHub, localDaemon } from "./home.ts";
import { type ApiTarget, callApi, followRun } from "./hub-client.ts";
import { printable } from "./output.ts";
import { printEvent } from "./print-event.ts";
import { asRecord } from "./record.ts";
import { type RunFiles, runFiles } from "./run-files.ts";
import { checkFolder } from "./sync-folder.ts";

export interface RunFlags {
  readonly hub?: string;
  readonly harness: string;
  readonly provider?: string;
  readonly template?: string;
  readonly runtime?: string;
  readonly tier?: number;
  readonly link?: string;
  readonly thread?: string;
  readonly branch?: string;
  readonly networkName?: string;
  readonly egress?: string;
  readonly model?: string;
  readonly timeout?: number;
  readonly local?: boolean;
  readonly detach?: boolean;
  readonly sync?: string;
  readonly fetch?: readonly string[];
  readonly env?: readonly string[];
}

/** `deco run`: dispatches, streams the events over any cut, leaves with the run's result. */
export function run(words: readonly string[], flags: RunFlags): Command {
  return async (context) => {
    const prompt = await promptOf(words);
    checkNetwork(flags);
    const more = { ...uploadOf(flags), variables: variablesOf(flags.env, context.env) };
    if (flags.sync !== undefined) await checkFolder(flags.sync);
    const target = flags.local ? localDaemon(context.env) : await findHub(context.env, flags.hub);
    const runId = flags.local
      ? await dispatchLocally(target, prompt, { ...flags, ...more }, context.signal)
      : await dispatchRun(target, runBody(prompt, { ...flags, ...more }), context.signal);
    if (flags.detach) {
      context.out.result({ runId, status: "queued" }, () => printable(runId));
      return 0;
    }
    context.out.note(context.out.dim(`run ${printable(runId)}`));
    const { sync, fetch = [] } = flags;
    const files = runFiles({ context, target, runId, ref: more.ref ?? "", sync, fetch });
    const last = await follow(context, { target, runId, local: flags.local === true, files });
    if (last !== undefined) await files.fetch();
    return exitCodeOf(last);
  };
}

/** @throws usage */
function checkNetwork({ networkName, thread }: RunFlags): void {
  if (networkName === undefined || thread !== undefined) return;
  throw new DecoError("usage", "--network-name is a name on its thread's network", {
    fix: "Say which thread: --thread NAME.",
  });
}

/** @throws usage */
function uploadOf({ sync, fetch, detach }: RunFlags): { ref?: string } {
  if (detach && (sync !== undefined || fetch !== undefined)) {
    throw new DecoError("usage", "--sync and --fetch need somebody who stays", {
      fix: "Leave --detach out.",
    });
  }
  return sync === undefined ? {} : { ref: randomUUID() };
}

/**
 * `NAME=value`, or `NAME` for the value that it has in this shell: a secret needs not be in argv.
 *
 * @throws usage
 */
function variablesOf(
  given: readonly string[] | undefined,
  env: CommandContext["env"],
): Record<string, string> | undefined {
  if (given === undefined) return undefined;
  const variables = given.map((one) => {
    const [name = "", ...rest] = one.split("=");
    const value = rest.length > 0 ? rest.join("=") : env[name];
    if (EnvName.safeParse(name).success && value !== undefined) return [name, value] as const;
    const what = rest.length > 0 ? "is not NAME=value" : "is no variable of this shell";
    throw new DecoError("usage", `--env ${name}: ${what}`, {
      fix: "Write --env NAME=value, or export NAME and write --env NAME.",
    });
  });
  return Object.fromEntries(variables);
}

/** Dispatches through a hub; an Idempotency-Key makes a retry after a cut harmless. */
export async function dispatchRun(
  target: ApiTarget,
  body: object,
  signal: AbortSignal,
): Promise<string> {
  const headers = { "idempotency-key": randomUUID() };
  const call = { method: "POST", path: "/api/runs", body, headers, signal };
  const answer = await callApi(target, call).catch((thrown: unknown) => {
    signal.throwIfAborted();
    if (thrown instanceof DecoError && thrown.code === "hub_unreachable")
      return callApi(target, call);
    throw thrown;
  });
  const { runId } = asRecord(answer);
  if (typeof runId === "string") return runId;
  throw new DecoError("internal", "the hub's answer has no runId");
}

/** Exit code that a terminal event stands for. */
export function exitCodeOf(event: RunEvent | undefined): number {
  if (event === undefined) return 1;
  const status = terminalStatus(event.type);
  const { exitCode, code } = event.payload;
  if (status === "completed") return exitCode === undefined || exitCode === 0 ? 0 : 1;
  // The code's own exit, such as 7 for a capability that is missing.
  return status === "failed" ? (DecoError.fromProblem({ code }).info.exit ?? 1) : 1;
}

/** The flags, with the name of the upload that the run waits for, and its environment. */
type Dispatch = RunFlags & {
  readonly ref?: string;
  readonly variables: Readonly<Record<string, string>> | undefined;
};

/** The body of `POST /api/runs` that the flags ask for. */
function runBody(prompt: string, flags: Dispatch): Record<string, unknown> {
  const { harness, link, thread, branch } = flags;
  return defined({ harness, prompt, link, thread, branch, ...sandboxAndOptions(flags) });
}

function sandboxAndOptions(flags: Dispatch): Record<string, unknown> {
  const { provider, template, runtime, tier, egress, model, timeout, ref, variables } = flags;
  const network =
    flags.networkName === undefined ? undefined : { thread: true, name: flags.networkName };
  const workspace = ref === undefined ? undefined : { mode: "archive", ref };
  const env = variables;
  const sandbox = defined({ workspace, provider, template, runtime, tier, egress, network, env });
  const options = defined({ model, timeoutSeconds: timeout });
  return {
    ...(Object.keys(sandbox).length === 0 ? {} : { sandbox }),
    ...(Object.keys(options).length === 0 ? {} : { options }),
  };
}

async function dispatchLocally(
  target: ApiTarget,
  prompt: string,
  flags: Dispatch,
  signal: AbortSignal,
): Promise<string> {
  const runId = `run_${randomUUID()}`;
  const { harness, thread, branch } = flags;
  const rest = defined({ thread, branch, ...sandboxAndOptions(flags) });
  const body = { runId, attempt: 1, harness, prompt, ...rest };
  await callApi(target, { method: "POST", path: "/v1/runs", body, signal });
  return runId;
}

/** Follows to the end. The first signal cancels the run and waits for its terminal event. */
async function follow(
  context: CommandContext,
  o: { target: ApiTarget; runId: string; local: boolean; files: RunFiles },
): Promise<RunEvent | undefined> {
  const { target, runId, local, files } = o;
  const { out, signal } = context;
  const never = new AbortController();
  const onSignal = () => {
    out.note("cancelling the run; press again to leave at once");
    const path = `${local ? "/v1" : "/api"}/runs/${runId}/cancel`;
    const body = local ? { attempt: 1 } : {};
    callApi(target, { method: "POST", path, body, signal: never.signal }).catch((thrown) =>
      out.note(`could not cancel: ${DecoError.from(thrown).message}`),
    );
  };
  signal.addEventListener("abort", onSignal, { once: true });
  let last: RunEvent | undefined;
  try {
    const options = { runId, signal: never.signal, ...(local ? { attempt: 1 } : {}) };
    const onCut = (error: DecoError) => out.note(out.dim(`  stream cut (${error.code}), resuming`));
    for await (const event of followRun(target, { ...options, onCut })) {
      last = event;
      printEvent(out, event);
      await files.onEvent(event);
    }
  } finally {
    signal.removeEventListener("abort", onSignal);
  }
  return last;
}

async function promptOf(words: readonly string[]): Promise<string> {
  const prompt = words.length === 1 && words[0] === "-" ? await readStdin() : words.join(" ");
  if (prompt.trim() !== "") return prompt;
  throw new DecoError("usage", "the prompt is empty", { fix: "Run: deco run -- PROMPT" });
}

async function readStdin(): Promise<string> {
  process.stdin.setEncoding("utf8");
  let all = "";
  for await (const chunk of process.stdin) all += String(chunk);
  return all;
}

function defined(value: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined));
}
