import { DecoError } from "../../../../protocol/errors.ts";
import { harnessRequest } from "../../../harness-request.ts";
import type { SandboxInfo } from "../../../provider.ts";
import {
  moveRunDir,
  readRecord,
  removeRunDir,
  runDirOf,
  type SandboxRecord,
  writeRecord,
} from "../../../run-dir.ts";
import { madeFrom } from "../../../sandbox-spec.ts";
import { infoOf, lookAt } from "../container/look.ts";
import { type DockerSetup, type Job, look } from "../job.ts";
import { pauseOf, pauseState } from "../network/pause.ts";
import type { Spare, WarmOrder } from "./warm-pool.ts";

/** One that takes longer is given up for the next, or for a cold start. */
const LEASE_MS = 3_000;

/**
 * Gives the job a sandbox that was made ahead, if there is one of this order.
 *
 * Its directory is moved, the model's socket opened and its token exchanged first. The container's
 * new name comes last: a daemon that dies before leaves a spare, which the next one reaps; one that
 * dies after leaves a whole sandbox.
 */
export async function leaseSpare(
  job: Job,
  record: SandboxRecord,
  order: WarmOrder,
): Promise<SandboxInfo | undefined> {
  const { warm } = job.setup;
  return await warm.lease(order.key, (spare) => attempt(job, { spare, record }), job.signal);
}

/**
 * What a spare of this job is made from. Undefined for what can't be made ahead: it holds something
 * of its thread or of the host, or its engine is none on which the moves of a lease were tried.
 */
export function orderOf(
  {
    setup,
    wanted,
    context,
  }: Pick<Job, "wanted" | "context"> & { setup: Pick<DockerSetup, "seen"> },
  transport: unknown,
): WarmOrder | undefined {
  const { tier, workspace, ports, threadNetwork } = wanted;
  const onHost = workspace.mode === "read_only" || workspace.mode === "read_write";
  const ofOthers = onHost || ports.length > 0 || threadNetwork !== undefined;
  if (tier > 2 || ofOthers || transport !== "socket" || setup.seen.podman === true) {
    return undefined;
  }
  const { harness } = context;
  const bare = madeFrom(wanted);
  return { key: `${bare.hash} ${harness ?? ""}`, wanted: bare, harness };
}

async function attempt(job: Job, o: { spare: Spare; record: SandboxRecord }): Promise<SandboxInfo> {
  const { setup, dir, stages } = job;
  const signal = AbortSignal.any([job.signal, AbortSignal.timeout(LEASE_MS)]);
  return await stages.run("lease", async () => {
    try {
      const [life, moved] = await Promise.allSettled([
        checkLife(setup, o.spare, signal),
        moveIn(job, o),
      ]);
      if (life.status === "rejected") throw life.reason;
      if (moved.status === "rejected") throw moved.reason;
      await exchangeToken(job, { spare: o.spare, ...moved.value }, signal);
      await job.context.beforeStart?.(dir.run, setup.uid);
      return await commit(job, { spare: o.spare, ...moved.value }, signal);
    } catch (thrown) {
      await removeRunDir(dir);
      throw thrown;
    }
  });
}

/** Why an engine has none, for who asks; undefined where it may have them, or was not asked yet. */
export function whyNone({ seen }: Pick<DockerSetup, "seen">): string | undefined {
  if (seen.podman === true) return "none are made on Podman";
  if (seen.transport !== "gateway") return undefined;
  return "none are made where the engine's containers are reached by ports alone";
}

/** The engine's word that it runs, in the life in which it was made ready. */
async function checkLife({ engine, instanceId }: DockerSetup, spare: Spare, signal: AbortSignal) {
  const found = await lookAt(engine, { name: spare.id, instanceId, signal });
  const runs = found?.engineStatus === "running" && found.startedAt === spare.startedAt;
  const pause = pauseOf(found?.networkMode ?? "");
  if (runs && (pause === undefined || (await pauseState(engine, pause, signal)) === "running")) {
    return;
  }
  throw new DecoError("sandbox_lost", "a sandbox that was made ahead does not run any more");
}

interface Moved {
  readonly record: SandboxRecord;
  readonly oldToken: string;
}

async function moveIn(
  { setup, dir, wanted, handle }: Job,
  { spare, record }: { spare: Spare; record: SandboxRecord },
): Promise<Moved> {
  const from = runDirOf(setup.runRoot, "docker", spare.handle);
  const made = await readRecord(from);
  if (made === undefined) throw new DecoError("sandbox_lost", `${spare.handle} has no record`);
  await moveRunDir(from, dir);
  const { token, createdAt, owner } = record;
  const extra = { ...made.extra, madeAs: spare.handle };
  const next = { ...made, handle, token, createdAt, specHash: wanted.hash, owner, extra };
  await writeRecord(dir, next);
  return { record: next, oldToken: made.token };
}

/** Also harnessd's word that it answers. The old token is dead from here on. */
async function exchangeToken(
  { dir }: Job,
  { spare, record, oldToken }: Moved & { spare: Spare },
  signal: AbortSignal,
): Promise<void> {
  const { token, uid } = record;
  const endpoint = {
    socketPath: `${dir.run}/harnessd.sock`,
    socketUid: uid,
    token: oldToken,
  };
  const request = { method: "PUT", path: "/v1/token", body: { token } };
  const answer = await harnessRequest(endpoint, request, signal);
  await answer.text(64 * 1024);
  if (answer.status === 200) return;
  throw new DecoError("harness_failed", `${spare.handle} took no token: ${answer.status}`);
}

async function commit(
  job: Job,
  { spare, record }: { spare: Spare; record: SandboxRecord },
  signal: AbortSignal,
): Promise<SandboxInfo> {
  const { engine } = job.setup;
  const rename = { name: job.names.container };
  await engine.call("rename a container", (d) => d.getContainer(spare.id).rename(rename), {
    signal,
  });
  const found = await look(job, signal);
  if (found?.id === spare.id && found.startedAt === spare.startedAt) return infoOf(found, record);
  throw new DecoError("sandbox_lost", "the sandbox ended while it was leased");
}
