import type { RunningDaemon } from "../daemon/main.ts";
import type { CommandContext } from "./command.ts";

const SAY_EVERY_MS = 10_000;

/** Lets a daemon's runs end within its grace, and says what it waits for. A second signal ends the process. */
export async function drainDaemon(
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
