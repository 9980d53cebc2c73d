import { chown, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../../../protocol/errors.ts";
import type { SandboxSpec } from "../../../protocol/messages.ts";
import { ensureHarnessdBinary } from "../../harnessd-binary.ts";
import type { EnsureContext, SandboxInfo } from "../../provider.ts";
import { awaitReady, type Life } from "../../ready.ts";
import { Rollback } from "../../rollback.ts";
import {
  makeRunDir,
  newToken,
  type RunDir,
  removeRunDir,
  runDirOf,
  type SandboxRecord,
  writeRecord,
} from "../../run-dir.ts";
import { memoryMibOf, sameSpec, type WantedSandbox, wantedSandbox } from "../../sandbox-spec.ts";
import { Stages } from "../../stages.ts";
import { makeCgroups } from "./cgroups.ts";
import { launch, started } from "./launch.ts";
import type { Confinement } from "./probe.ts";
import { allProcesses, hostProcess } from "./proc.ts";
import { endSandbox } from "./process-kill.ts";
import {
  lookAtProcess,
  ownNamespace,
  type ProcessFacts,
  processInfo,
  residents,
} from "./process-look.ts";
import { lastLines, type ProcessProviderOptions, uidOf } from "./process-options.ts";

export interface ProcessSetup extends ProcessProviderOptions {
  readonly confinement: (signal: AbortSignal) => Promise<Confinement>;
  /** How what this daemon started has ended. */
  readonly exits: Map<string, { code: number | null; signal: string | null }>;
  readonly readyTimeoutMs: number;
}

interface Job {
  readonly setup: ProcessSetup;
  readonly handle: string;
  readonly context: EnsureContext;
  readonly wanted: WantedSandbox;
  readonly confined: boolean;
  readonly dir: RunDir;
  readonly stages: Stages;
  readonly signal: AbortSignal;
}

/** Finds, starts again, or makes the process of a handle. Rolls back what it began. */
export async function ensureProcess(
  setup: ProcessSetup,
  o: { handle: string; spec: SandboxSpec; context: EnsureContext },
  signal: AbortSignal,
): Promise<SandboxInfo> {
  const { handle, spec, context } = o;
  const dir = runDirOf(setup.runRoot, handle);
  const { confined, reason } = await setup.confinement(signal);
  if (!confined && setup.allowUnconfined !== true) {
    throw new DecoError("unconfined_refused", reason ?? "nothing here can confine a process");
  }
  const wanted = honoured(spec, confined);
  const stages = new Stages((stage) => context.onStage(stage));
  const job: Job = { setup, handle, context, wanted, confined, dir, stages, signal };
  const found = await lookAtProcess(dir);
  if (found === undefined) return await makeNew(job);
  sameSpec(handle, found.record.specHash, wanted.hash);
  const uid = found.record.uid;
  await context.beforeStart?.(dir.run, uid);
  if (found.running) {
    const { record, facts } = found;
    return await stages.run("ready", () => untilReady(job, { record, facts, timeoutMs: 10_000 }));
  }
  return await startAgain(job, found.record, found.facts);
}

/** @throws isolation_unavailable for what neither a namespace nor a plain child can give */
function honoured(spec: SandboxSpec, confined: boolean): WantedSandbox {
  if (spec.image !== undefined) refuse("images");
  if (confined && spec.egress === "open") refuse('network: its only egress is "none"');
  if (!confined && spec.egress === "none") refuse("way to take the network from a plain process");
  if (!confined && spec.resources !== undefined) refuse("limits for a plain process");
  return wantedSandbox(spec, "process", { egress: confined ? "none" : "open" });
}

function refuse(what: string): never {
  throw new DecoError("isolation_unavailable", `the process provider has no ${what}`);
}

async function makeNew(job: Job): Promise<SandboxInfo> {
  const { setup, handle, dir, stages, confined } = job;
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
    uid,
    harnesses: [],
    extra: facts,
  };
  await stages.run("create", async () => {
    await removeRunDir(dir);
    rollback.add("directory", () => removeRunDir(dir));
    await makeRunDir(dir, { uid, token: record.token });
    await makeDirectories(dir, confined ? uid : undefined);
    await writeRecord(dir, record);
    await job.context.beforeStart?.(dir.run, uid);
  });
  const info = await startAndWait(job, { record, facts, binary, rollback });
  rollback.keep();
  return { ...info, ...stages.result() };
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
  await rm(join(dir.run, "harnessd.sock"), { force: true });
  const token = join(dir.run, "token");
  await rm(token, { recursive: true, force: true });
  await writeFile(token, record.token, { mode: 0o600, flag: "wx" });
  if (job.confined) await chown(token, record.uid, record.uid);
  const facts: ProcessFacts = { confined: job.confined, cgroups: [], spared: [] };
  const info = await startAndWait(job, { record, facts, binary, rollback });
  rollback.keep();
  return { ...info, ...stages.result() };
}

interface Start {
  readonly record: SandboxRecord;
  readonly facts: ProcessFacts;
  readonly binary: string;
  readonly rollback: Rollback;
}

async function startAndWait(job: Job, start: Start): Promise<SandboxInfo> {
  const { record } = start;
  const facts = await job.stages.run("start", () => startProcess(job, start));
  const timeoutMs = job.setup.readyTimeoutMs;
  return await job.stages.run("ready", () => untilReady(job, { record, facts, timeoutMs }));
}

async function startProcess(job: Job, { record, facts, binary, rollback }: Start) {
  const { dir, setup, handle, signal } = job;
  let now: ProcessFacts = facts;
  rollback.add("processes", (undo) => endSandbox(now, dir, undo));
  if (job.confined) now = { ...now, cgroups: await cgroupsFor(job) };
  setup.exits.delete(handle);
  const child = await (job.confined
    ? launch({ ...launchOf(job, record, binary), cgroups: now.cgroups })
    : startPlain(job, binary));
  child.once("exit", (code, by) => setup.exits.set(handle, { code, signal: by }));
  const pid = child.pid ?? 0;
  now = {
    ...now,
    pid,
    start: (await hostProcess(pid))?.start,
    startedAt: new Date().toISOString(),
  };
  const init = job.confined ? await findInit(job, pid) : await hostProcess(pid);
  if (init === undefined) throw await ended(job);
  const namespace = job.confined ? await ownNamespace(init.pid) : undefined;
  now = { ...now, initPid: init.pid, initStart: init.start, namespace };
  await writeRecord(dir, { ...record, extra: now });
  signal.throwIfAborted();
  return now;
}

function cgroupsFor({ setup, dir, wanted, context }: Job): Promise<string[]> {
  const limits = {
    memoryMib: memoryMibOf(wanted, context.harness),
    cpus: wanted.cpus,
    pids: wanted.pids,
  };
  const base = dir.base.slice(-10);
  return makeCgroups(`${setup.instanceId.replace(/[^a-zA-Z0-9]/g, "")}-${base}`, limits);
}

function launchOf({ dir, wanted, handle }: Job, { uid }: SandboxRecord, binary: string) {
  return {
    base: dir.base,
    runDir: dir.run,
    workspace: join(dir.base, "workspace"),
    binary,
    uid,
    pids: wanted.pids,
    hostname: handle,
    logPath: join(dir.base, "harnessd.log"),
  };
}

/** harnessd as a child without walls: its files and its name for them are all that it shares. */
async function startPlain({ dir }: Job, binary: string) {
  return await started([binary], join(dir.base, "harnessd.log"), {
    PATH: "/usr/local/bin:/usr/bin:/bin",
    HOME: join(dir.base, "home"),
    TMPDIR: join(dir.base, "tmp"),
    LANG: "C.UTF-8",
    HARNESS_ADDR: "off",
    HARNESS_SOCKET: join(dir.run, "harnessd.sock"),
    HARNESS_TOKEN_FILE: join(dir.run, "token"),
    HARNESS_WORKSPACE: join(dir.base, "workspace"),
    HARNESS_DATA: join(dir.base, "data"),
    HARNESS_MODEL_URL: join(dir.run, "model.sock"),
  });
}

/** The launcher's child: pid 1 of the sandbox. */
async function findInit({ setup, handle, signal }: Job, launcherPid: number) {
  for (let wait = 2; !setup.exits.has(handle); wait = Math.min(wait * 2, 50)) {
    const child = (await allProcesses()).find(({ parent }) => parent === launcherPid);
    if (child !== undefined && (await ownNamespace(child.pid)) !== undefined) return child;
    await sleep(wait, undefined, { signal });
  }
  return undefined;
}

async function ended({ setup, handle, dir }: Job): Promise<DecoError> {
  const exit = setup.exits.get(handle);
  const log = await lastLines(join(dir.base, "harnessd.log"), 20);
  const how =
    exit === undefined
      ? "ended"
      : exit.signal === null
        ? `ended with exit code ${exit.code}`
        : `was killed by ${exit.signal}`;
  return new DecoError("sandbox_failed", `the sandbox ${how} before it was ready: ${log}`, {
    extensions: { log, ...(exit?.code == null ? {} : { exitCode: exit.code }) },
  });
}

async function untilReady(
  job: Job,
  o: { record: SandboxRecord; facts: ProcessFacts; timeoutMs: number },
): Promise<SandboxInfo> {
  const { dir, signal } = job;
  const { token, uid } = o.record;
  const ready = await awaitReady({
    endpoints: [{ socketPath: join(dir.run, "harnessd.sock"), socketUid: uid, token }],
    life: () => lifeOf(job),
    timeoutMs: o.timeoutMs,
    signal,
  });
  const { harnesses } = ready;
  const spared = o.facts.spared.length > 0 ? o.facts.spared : await ownPids(o.facts, dir);
  const facts: ProcessFacts = { ...o.facts, spared };
  const record: SandboxRecord = { ...o.record, harnesses, extra: facts };
  await writeRecord(dir, record);
  return processInfo({ record, facts, running: true }, dir);
}

async function lifeOf(job: Job): Promise<Life> {
  const look = await lookAtProcess(job.dir);
  if (look === undefined) throw new DecoError("sandbox_lost", `${job.handle} was removed`);
  if (!look.running) throw await ended(job);
  const { initPid, initStart = "" } = look.facts;
  return { id: `${initPid}`, startedAt: initStart };
}

/** Init and harnessd: all that lives at the beginning, before anything was asked of it. */
async function ownPids(facts: ProcessFacts, dir: RunDir): Promise<number[]> {
  const all = await residents(facts, dir);
  return all
    .filter(
      ({ pid, parent }) => pid === facts.initPid || (facts.confined && parent === facts.initPid),
    )
    .map(({ pid }) => pid);
}
