import { join } from "node:path";
import { DecoError } from "../../../protocol/errors.ts";
import type { HarnessEndpoint, SandboxInfo } from "../../provider.ts";
import { awaitReady } from "../../ready.ts";
import { type RunDir, type SandboxRecord, sealRunDir, writeRecord } from "../../run-dir.ts";
import { type DockerSetup, type Job, look } from "./job.ts";
import { type ContainerLook, containerLogs, infoOf } from "./look.ts";
import { ownPids } from "./processes.ts";

/** Starts the container and waits until harnessd answers. */
export async function startAndWait(job: Job, record: SandboxRecord): Promise<SandboxInfo> {
  const { setup, stages, names, signal } = job;
  await stages.run("start", async () => {
    await setup.engine.call(
      "start a container",
      (docker) => docker.getContainer(names.container).start(),
      { signal, deadlineMs: 60_000 },
    );
  });
  return await stages.run("ready", () =>
    waitUntilReady(job, record, { timeoutMs: setup.readyTimeoutMs }),
  );
}

/**
 * Waits for a started container, and notes what its harnessd says of itself.
 *
 * @throws also harness_unreachable, when `refusedMs` is given
 */
export async function waitUntilReady(
  job: Job,
  record: SandboxRecord,
  o: { timeoutMs: number; refusedMs?: number },
) {
  const { setup, dir, signal } = job;
  const started = await running(job, signal);
  const ready = await awaitReady({
    endpoints: endpointsOf(started, record, dir),
    life: (s) => running(job, s),
    ...o,
    signal,
  });
  const { life: now, harnesses } = ready;
  const [spared] = await Promise.all([sparedPids(setup, { record, now, signal }), sealRunDir(dir)]);
  const known: SandboxRecord = { ...record, harnesses, extra: { ...record.extra, ...spared } };
  await writeRecord(dir, known);
  return infoOf(now, known);
}

/** Notes who init and harnessd are at the beginning of a life, when nothing else runs inside. */
async function sparedPids(
  setup: DockerSetup,
  o: { record: SandboxRecord; now: ContainerLook; signal: AbortSignal },
): Promise<Record<string, unknown>> {
  const { now } = o;
  if (o.record.extra["startedAt"] === now.startedAt) return {};
  const pids = await ownPids(setup.engine, now, o.signal);
  return { sparedPids: pids, startedAt: now.startedAt };
}

/** Every way in that the sandbox has; the socket first. */
function endpointsOf(
  found: ContainerLook,
  { token, uid, extra }: SandboxRecord,
  dir: RunDir,
): [HarnessEndpoint, ...HarnessEndpoint[]] {
  const socket = { socketPath: join(dir.run, "harnessd.sock"), socketUid: uid, token };
  if (found.port === undefined) return [socket];
  const port = { url: `http://127.0.0.1:${found.port}`, token };
  return extra["transport"] === "gateway" ? [port] : [socket, port];
}

/** The container while it runs; a crash is told with its exit code and last lines. */
async function running(job: Job, signal: AbortSignal): Promise<ContainerLook> {
  const found = await look(job, signal);
  if (found === undefined) {
    throw new DecoError("sandbox_lost", `the container of ${job.handle} disappeared`);
  }
  if (found.status === "running") return found;
  const { engine } = job.setup;
  const log = await containerLogs(engine, { name: found.id, lines: 20, signal }).catch(() => "");
  const why = found.oomKilled ? "was out of memory" : `ended with exit code ${found.exitCode}`;
  throw new DecoError("sandbox_failed", `the sandbox ${why} before it was ready: ${log.trim()}`, {
    extensions: { exitCode: found.exitCode, log },
  });
}
