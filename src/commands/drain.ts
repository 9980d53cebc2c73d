import type { KeptSandbox } from "../daemon/close-sandboxes.ts";
import type { RunningDaemon } from "../daemon/main.ts";
import type { CommandContext } from "./command.ts";

const SAY_EVERY_MS = 10_000;

/** Until a signal, which drains, or until the daemon ends by itself; gives the exit code. */
export async function stayWithDaemon(
  context: Pick<CommandContext, "out" | "signal">,
  daemon: Pick<RunningDaemon, "drain" | "status" | "close" | "closed">,
): Promise<number> {
  const { signal } = context;
  const stopped = new Promise<undefined>((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
  const end = await Promise.race([daemon.closed, stopped]);
  if (end === undefined) {
    await leaveDaemon(context, daemon);
    return 0;
  }
  if (end.error) throw end.error;
  return end.exitCode;
}

/** Drains, closes, and says in the last line what stays on this machine. */
async function leaveDaemon(
  context: Pick<CommandContext, "out">,
  daemon: Pick<RunningDaemon, "drain" | "status" | "close" | "closed">,
): Promise<void> {
  await drainDaemon(context, daemon);
  await daemon.close();
  const { kept = [], error } = await daemon.closed;
  if (error) throw error;
  const last = whatStays(kept);
  if (last !== undefined) context.out.note(last);
}

const NAMED = 5;

/** One line about the sandboxes that stay; undefined when none does. */
export function whatStays(kept: readonly KeptSandbox[]): string | undefined {
  if (kept.length === 0) return undefined;
  const handles = kept.map(({ handle }) => handle);
  const named = `${handles.slice(0, NAMED).join(" ")}${handles.length > NAMED ? " …" : ""}`;
  const still = kept.filter(({ goesOn }) => goesOn !== undefined).map(({ handle }) => handle);
  const one = kept.length === 1;
  const inside =
    still.length === 0
      ? `nothing runs in ${one ? "it" : "them"}`
      : `still at work: ${still.slice(0, NAMED).join(" ")}`;
  const count = one ? "1 sandbox stays with its" : `${kept.length} sandboxes stay with their`;
  return `${count} files (${inside}); to remove, while deco runs: deco sandbox rm ${named}`;
}

/** Lets a daemon's runs end within its grace, and says what it waits for. A second signal ends the process. */
async function drainDaemon(
  { out }: Pick<CommandContext, "out">,
  daemon: Pick<RunningDaemon, "drain" | "status">,
): Promise<void> {
  const say = () => {
    const { drain } = daemon.status();
    const runs = drain?.runs.map(({ runId }) => runId) ?? [];
    if (runs.length === 0) return;
    const seconds = Math.max(0, Math.ceil((Date.parse(drain?.until ?? "") - Date.now()) / 1000));
    out.note(`draining: up to ${seconds} s for ${runs.join(", ")}; press again to leave at once`);
  };
  const draining = daemon.drain();
  say();
  const saying = setInterval(say, SAY_EVERY_MS);
  try {
    const left = await draining;
    if (left > 0) out.note(`${left} runs are left; they go on with the next start on this home`);
  } finally {
    clearInterval(saying);
  }
}
