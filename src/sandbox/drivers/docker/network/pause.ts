import { randomBytes } from "node:crypto";
import type Dockerode from "dockerode";
import { removeForced } from "../container/remove.ts";
import { type Engine, orMissing, refusedStatus } from "../engine/engine.ts";
import { LABELS, networkOf } from "../names.ts";

/** Value of the role label: a container that only holds a network for one sandbox. */
export const PAUSE_ROLE = "pause";

const JOINED = "container:";

/** The network mode of a container that joins this one. */
export const joining = (id: string) => `${JOINED}${id}`;

/** Id of the container whose network one of this mode joined. */
export function pauseOf(networkMode: string): string | undefined {
  return networkMode.startsWith(JOINED) ? networkMode.slice(JOINED.length) : undefined;
}

const MIB = 1024 * 1024;

interface PauseOrder {
  readonly engine: Engine;
  readonly instanceId: string;
  /** One of ours, for its busybox. */
  readonly image: string;
  readonly network: string;
}

/** Makes a pause container and starts it; one that fails is removed. @returns its id */
export async function makePause(o: PauseOrder, signal: AbortSignal): Promise<string> {
  const name = `${networkOf(o.instanceId)}-pause-${randomBytes(4).toString("hex")}`;
  try {
    const made = await o.engine.call(
      "create a pause container",
      (docker) => docker.createContainer(pauseOptions(name, o)),
      { signal, deadlineMs: 60_000 },
    );
    await startPause(o.engine, made.id, signal);
    return made.id;
  } catch (thrown) {
    // Also one whose create was cut off: by its name, which is nobody else's.
    await removeForced(o.engine, name, AbortSignal.timeout(20_000)).catch(() => undefined);
    throw thrown;
  }
}

function pauseOptions(name: string, o: PauseOrder): Dockerode.ContainerCreateOptions {
  return {
    name,
    Image: o.image,
    Entrypoint: ["/bin/busybox", "sleep", "2147483647"],
    User: "65534:65534",
    WorkingDir: "/",
    Labels: { [LABELS.instance]: o.instanceId, [LABELS.role]: PAUSE_ROLE },
    // As process 1 it hears no SIGTERM: an engine that ends would wait 10 s for it.
    StopSignal: "SIGKILL",
    HostConfig: {
      NetworkMode: o.network,
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges"],
      // sleep needs 0.3 MiB, runc's start of it some more.
      Memory: 16 * MIB,
      MemorySwap: 16 * MIB,
      PidsLimit: 8,
      IpcMode: "none",
      Ulimits: [{ Name: "core", Soft: 0, Hard: 0 }],
      RestartPolicy: { Name: "no" },
      LogConfig: { Type: "none", Config: {} },
    },
  };
}

/** Running already is success. */
export async function startPause(engine: Engine, id: string, signal: AbortSignal): Promise<void> {
  const start = (docker: Dockerode) => docker.getContainer(id).start();
  try {
    await engine.call("start a pause container", start, { signal, deadlineMs: 60_000 });
  } catch (thrown) {
    if (refusedStatus(thrown) !== 304) throw thrown;
  }
}

export async function pauseState(
  engine: Engine,
  id: string,
  signal: AbortSignal,
): Promise<"running" | "stopped" | "missing"> {
  const found = await orMissing(
    engine.call(
      "inspect a pause container",
      (docker, abortSignal) => docker.getContainer(id).inspect({ abortSignal }),
      { signal },
    ),
  );
  if (found === undefined) return "missing";
  return found.State.Running ? "running" : "stopped";
}
