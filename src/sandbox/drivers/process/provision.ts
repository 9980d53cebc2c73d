import { chown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { DecoError } from "../../../protocol/errors.ts";
import { configMissing } from "../../config-missing.ts";
import { ensureHarnessdBinary } from "../../harnessd-binary.ts";
import { sameOwner } from "../../owner.ts";
import type { EnsureContext, SandboxInfo } from "../../provider.ts";
import { isBrokenInside, reuseWait } from "../../ready.ts";
import { Rollback } from "../../rollback.ts";
import {
  makeRunDir,
  newToken,
  type RunDir,
  removeRunDir,
  renewRunDir,
  runDirOf,
  type SandboxRecord,
  sealRunDir,
  writeRecord,
} from "../../run-dir.ts";
import {
  type ResolvedSpec,
  sameSpec,
  type WantedSandbox,
  wantedSandbox,
} from "../../sandbox-spec.ts";
import { Stages } from "../../stages.ts";
import { fillWorkspace } from "../../workspace/fill.ts";
import { endForgotten, endSandbox } from "./process-kill.ts";
import { lookAtProcess, type ProcessFacts, type ProcessLook } from "./process-look.ts";
import { uidOf } from "./process-options.ts";
import { refuse, refuseForProcess } from "./refuse.ts";
import { type Job, type ProcessSetup, startAndWait, untilReady } from "./start-process.ts";

/** Finds, starts again, or makes the process of a handle. Rolls back what it began. */
export async function ensureProcess(
  setup: ProcessSetup,
  o: { handle: string; spec: ResolvedSpec; context: EnsureContext },
  signal: AbortSignal,
): Promise<SandboxInfo> {
  const { handle, spec, context } = o;
  const dir = runDirOf(setup.runRoot, "process", handle);
  const { confined, reason } = await setup.confinement(signal);
  if (!confined && setup.allowUnconfined !== true) {
    throw new DecoError("unconfined_refused", reason ?? "nothing here can confine a process");
  }
  const wanted = honoured(spec, confined);
  const stages = new Stages((stage) => context.onStage(stage), context.onProgress);
  const job: Job = { setup, handle, context, wanted, confined, dir, stages, signal };
  const found = await lookAtProcess(dir);
  if (found === undefined) return await makeNew(job);
  sameOwner(handle, found.record.owner, context.owner);
  sameSpec(handle, found.record.specHash, wanted.hash);
  const info = found.running ? await asItIs(job, found) : undefined;
  if (info !== undefined) await fill(job, found.record);
  return info ?? (await startAgain(job, found.record, found.facts));
}

/** Undefined when it runs, but harnessd in it is not to be reached any more. */
async function asItIs(job: Job, { record, facts }: ProcessLook): Promise<SandboxInfo | undefined> {
  const { setup, dir, stages, context, signal } = job;
  if (await sealRunDir(dir)) {
    await context.beforeStart?.(dir.run, record.uid);
    try {
      const o = { record, facts, ...reuseWait(setup.readyTimeoutMs) };
      return await stages.run("ready", () => untilReady(job, o));
    } catch (thrown) {
      signal.throwIfAborted();
      if (!isBrokenInside(thrown, context)) throw thrown;
      setup.log.warn({ err: thrown, handle: job.handle }, "harnessd does not answer: restarted");
    }
  }
  await stages.run("restart", () => endSandbox(facts, dir, signal));
  return undefined;
}

/** @throws isolation_unavailable for what neither a namespace nor a plain child can give */
function honoured(spec: ResolvedSpec, confined: boolean): WantedSandbox {
  refuseForProcess(spec);
  if (confined && spec.egress === "open") refuse('network: its only egress is "none"');
  if (!confined && spec.egress === "none") refuse("way to take the network from a plain process");
  if (!confined && spec.resources !== undefined) refuse("limits for a plain process");
  return wantedSandbox(spec, "process", { egress: confined ? "none" : "open" });
}

/** A new workspace has what the template or an archive brings. @throws config_missing */
function checkSources({ workspace, requires, files }: WantedSandbox): void {
  const missing = requires.files.filter((file) => !Object.hasOwn(files, file));
  if (workspace.mode === "none" && missing.length > 0) throw configMissing(missing);
}

async function makeNew(job: Job): Promise<SandboxInfo> {
  const { setup, handle, dir, stages, confined } = job;
  checkSources(job.wanted);
  const { owner } = job.context;
  const binary = await stages.run("image", () => findBinary(job));
  await using rollback = new Rollback(setup.log);
  const uid = confined ? uidOf(setup.instanceId, handle) : (process.getuid?.() ?? 0);
  const facts: ProcessFacts = { confined, cgroups: [], spared: [] };
  const record: SandboxRecord = {
    handle,
    provider: "process",
    token: newToken(),
    createdAt: new Date().toISOString(),
    specHash: job.wanted.hash,
    ...(owner === undefined ? {} : { owner }),
    uid,
    harnesses: [],
    extra: facts,
  };
  await stages.run("create", async () => {
    await endForgotten(setup.instanceId, dir, job.signal);
    await removeRunDir(dir);
    rollback.add("directory", () => removeRunDir(dir));
    await makeRunDir(dir, { uid, token: record.token });
    await makeDirectories(dir, confined ? uid : undefined);
    await writeRecord(dir, record);
    await job.context.beforeStart?.(dir.run, uid);
  });
  const info = await startAndWait(job, { record, facts, binary, rollback });
  await fill(job, record);
  rollback.keep();
  return { ...info, ...stages.result() };
}

/** Its harnessd is ready; also when a daemon ended before it had the files in. */
async function fill({ dir, wanted, stages, signal }: Job, { token, uid }: SandboxRecord) {
  const endpoint = { socketPath: join(dir.run, "harnessd.sock"), socketUid: uid, token };
  await fillWorkspace({ wanted, dir, endpoint, stages, signal });
}

const findBinary = ({ setup, signal }: Job) =>
  ensureHarnessdBinary({ cacheDir: setup.cacheDir, signal });

/** `workspace` is /workspace inside; the others serve a plain child only. */
async function makeDirectories(dir: RunDir, uid: number | undefined): Promise<void> {
  const workspace = join(dir.base, "workspace");
  await mkdir(workspace, { mode: 0o700 });
  if (uid !== undefined) await chown(workspace, uid, uid);
  else
    for (const name of ["home", "tmp", "data"]) await mkdir(join(dir.base, name), { mode: 0o700 });
}

async function startAgain(
  job: Job,
  record: SandboxRecord,
  old: ProcessFacts,
): Promise<SandboxInfo> {
  const { dir, setup, stages } = job;
  const binary = await stages.run("image", () => findBinary(job));
  await using rollback = new Rollback(setup.log);
  await endSandbox(old, dir, job.signal);
  await renewRunDir(dir, record);
  await job.context.beforeStart?.(dir.run, record.uid);
  const facts: ProcessFacts = { confined: job.confined, cgroups: [], spared: [] };
  const info = await startAndWait(job, { record, facts, binary, rollback });
  await fill(job, record);
  rollback.keep();
  return { ...info, ...stages.result() };
}
