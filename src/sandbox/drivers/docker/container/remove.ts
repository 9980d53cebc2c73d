import { setTimeout as sleep } from "node:timers/promises";
import { type Engine, orMissing, refusedStatus } from "../engine/engine.ts";

/**
 * One forced call: a stop first would let a restart policy bring it back (LESSONS 28). Gone already
 * is success. Resolves when the engine knows no such container any more.
 */
export async function removeForced(engine: Engine, id: string, signal: AbortSignal): Promise<void> {
  const o = { signal, deadlineMs: 60_000 };
  const remove = () =>
    engine.call(
      "remove a container",
      (d) => d.getContainer(id).remove({ force: true, v: true }),
      o,
    );
  try {
    await orMissing(remove());
  } catch (thrown) {
    // Somebody else's removal of it is under way.
    if (refusedStatus(thrown) !== 409) throw thrown;
    await untilGone(engine, id, signal);
  }
}

async function untilGone(engine: Engine, id: string, signal: AbortSignal): Promise<void> {
  const inspect = () =>
    orMissing(engine.call("inspect a container", (d) => d.getContainer(id).inspect(), { signal }));
  while ((await inspect()) !== undefined) await sleep(50, undefined, { signal });
}

/** Gone already is success. Only for volumes whose container is proven gone. */
export async function removeVolume(
  engine: Engine,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  await orMissing(
    engine.call("remove a volume", (docker) => docker.getVolume(name).remove(), { signal }),
  );
}
