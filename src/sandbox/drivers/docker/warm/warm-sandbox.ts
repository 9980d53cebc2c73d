import { randomBytes } from "node:crypto";
import { Rollback } from "../../../rollback.ts";
import { listRecords, runDirOf } from "../../../run-dir.ts";
import { Stages } from "../../../stages.ts";
import { listOwnContainers } from "../container/own-containers.ts";
import type { DockerSetup, Job } from "../job.ts";
import { makeSpare } from "../life/provision.ts";
import { removeSandbox } from "../life/remove-sandbox.ts";
import { isSpare, LABELS, namesOf, WARM_ROLE } from "../names.ts";
import type { WarmMaker, WarmOrder } from "./warm-pool.ts";

const MIB = 1024 * 1024;

/** Makes sandboxes ahead as all others are made, under a name of their own. */
export function warmMaker(setupOf: () => DockerSetup): WarmMaker {
  return {
    make: async (order, signal) => {
      const setup = setupOf();
      const job = jobOf(setup, order, signal);
      await using rollback = new Rollback(setup.log);
      const { id, startedAt } = await makeSpare(job);
      const { handle } = job;
      rollback.add("spare", (undo) => removeSandbox(setup, { handle, id }, undo));
      const memoryMib = await usedMib(setup, id, signal);
      rollback.keep();
      return { handle, id, startedAt, memoryMib };
    },
    memoryMib: ({ id }, signal) => usedMib(setupOf(), id, signal),
    discard: (spare, signal) => removeSandbox(setupOf(), spare, signal),
    list: (signal) => listSpares(setupOf(), signal),
  };
}

function jobOf(setup: DockerSetup, { wanted, harness }: WarmOrder, signal: AbortSignal): Job {
  const handle = `w-${randomBytes(8).toString("hex")}`;
  const { instanceId, runRoot } = setup;
  return {
    setup,
    handle,
    spare: true,
    context: { instanceId, ...(harness === undefined ? {} : { harness }), onStage() {} },
    wanted,
    names: namesOf(instanceId, handle),
    dir: runDirOf(runRoot, "docker", handle),
    stages: new Stages(() => {}),
    signal,
  };
}

/** As the kernel counts it, without files that it may drop; the limit where it tells nothing. */
async function usedMib({ engine }: DockerSetup, id: string, signal: AbortSignal): Promise<number> {
  const { memory_stats: memory } = await engine.call(
    "measure a container",
    (docker) => docker.getContainer(id).stats({ stream: false, "one-shot": true }),
    { signal },
  );
  const { usage, limit } = memory;
  // A container that does not run any more has none.
  if (usage === undefined) return Math.ceil((limit ?? 0) / MIB);
  return Math.ceil((usage - (memory.stats?.inactive_file ?? 0)) / MIB);
}

/**
 * By container, and by the record of one that never had a container, or lost it half-way to its end. A
 * lease takes the record along, so that a leased one's volume is never among them.
 */
async function listSpares(setup: DockerSetup, signal: AbortSignal) {
  const records = await listRecords(setup.runRoot);
  const found = await listOwnContainers(setup, signal, `${LABELS.role}=${WARM_ROLE}`);
  const spares = found
    .filter(({ Names, Labels }) => isSpare(Names[0] ?? "", Labels))
    .map(({ Id, Labels }) => ({ id: Id, handle: Labels[LABELS.handle] ?? "" }));
  const known = new Set(found.map(({ Labels }) => Labels[LABELS.handle]));
  const lost = records
    .filter(({ provider, handle }) => provider === "docker" && isSpareHandle(handle))
    .filter(({ handle }) => !known.has(handle))
    .map(({ handle }) => ({ id: namesOf(setup.instanceId, handle).container, handle }));
  return [...spares, ...lost];
}

const isSpareHandle = (handle: string) => /^w-[0-9a-f]{16}$/.test(handle);
