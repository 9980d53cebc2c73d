import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../../../protocol/errors.ts";
import type { EnsureContext, SandboxInfo } from "../../provider.ts";
import { awaitReady, type Life } from "../../ready.ts";
import type { Rollback } from "../../rollback.ts";
import { type RunDir, type SandboxRecord, sealRunDir, writeRecord } from "../../run-dir.ts";
import { memoryMibOf, type WantedSandbox } from "../../sandbox-spec.ts";
import type { Stages } from "../../stages.ts";
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
import { cgroupName, lastLines, type ProcessProviderOptions } from "./process-options.ts";

export interface ProcessSetup extends ProcessProviderOptions {
  readonly confinement: (signal: AbortSignal) => Promise<Confinement>;
  /** How what this daemon started has ended. */
  readonly exits: Map<string, { code: number | null; signal: string | null }>;
  readonly readyTimeoutMs: number;
}

/** One provisioning: everything that its steps share. */
export interface Job {
  readonly setup: ProcessSetup;
  readonly handle: string;
  readonly context: EnsureContext;
  readonly wanted: WantedSandbox;
  readonly confined: boolean;
  readonly dir: RunDir;
  readonly stages: Stages;
  readonly signal: AbortSignal;
}

interface Start {
  readonly record: SandboxRecord;
  readonly facts: ProcessFacts;
  readonly binary: string;
  readonly rollback: Rollback;
}

/** Starts harnessd, confined or plain, and waits until it answers. */
export async function startAndWait(job: Job, start: Start): Promise<SandboxInfo> {
  const { record } = start;
  const facts = await job.stages.run("boot", () => startProcess(job, start));
  const timeoutMs = job.wanted.readyBudgetMs ?? job.setup.readyTimeoutMs;
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
  return makeCgroups(cgroupName(setup.instanceId, dir), limits);
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

/** Waits for a started harnessd, and notes what it says of itself. */
export async function untilReady(
  job: Job,
  o: { record: SandboxRecord; facts: ProcessFacts; timeoutMs: number; refusedMs?: number },
): Promise<SandboxInfo> {
  const { dir, signal } = job;
  const { token, uid } = o.record;
  const ready = await awaitReady({
    endpoints: [{ socketPath: join(dir.run, "harnessd.sock"), socketUid: uid, token }],
    life: () => lifeOf(job),
    timeoutMs: o.timeoutMs,
    ...(o.refusedMs === undefined ? {} : { refusedMs: o.refusedMs }),
    signal,
  });
  await sealRunDir(dir);
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
