import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { memoryLimitMib, oomKills } from "../../oom-kills.ts";
import type { SandboxInfo } from "../../provider.ts";
import { type RunDir, readRecord, type SandboxRecord } from "../../run-dir.ts";
import { allProcesses, type HostProcess, lives, membersOf, pidNamespace } from "./proc.ts";

/** The driver's own facts of one sandbox, kept in its record: enough to adopt it after a restart. */
export const ProcessFacts = z.object({
  confined: z.boolean(),
  cgroups: z.array(z.string()),
  /** What the daemon spawned: `unshare`, or harnessd itself when it is unconfined. */
  pid: z.int().optional(),
  start: z.string().optional(),
  /** Pid 1 of the sandbox, as the host numbers it; harnessd when it is unconfined. */
  initPid: z.int().optional(),
  initStart: z.string().optional(),
  namespace: z.string().optional(),
  startedAt: z.string().optional(),
  /** Init and harnessd. */
  spared: z.array(z.int()).default([]),
});
export type ProcessFacts = z.infer<typeof ProcessFacts>;

export interface ProcessLook {
  readonly record: SandboxRecord;
  readonly facts: ProcessFacts;
  readonly running: boolean;
}

/** What the record and the process table say; undefined when there is no such sandbox. */
export async function lookAtProcess(dir: RunDir): Promise<ProcessLook | undefined> {
  const record = await readRecord(dir);
  if (record?.provider !== "process") return undefined;
  const parsed = ProcessFacts.safeParse(record.extra);
  const facts = parsed.data ?? { confined: false, cgroups: [], spared: [] };
  const { initPid, initStart } = facts;
  const running =
    initPid !== undefined && initStart !== undefined && (await lives(initPid, initStart));
  return { record, facts, running };
}

export function processInfo({ record, facts, running }: ProcessLook, dir: RunDir): SandboxInfo {
  return {
    handle: record.handle,
    provider: "process",
    status: running ? "running" : "stopped",
    id: facts.initPid === undefined ? "" : `${facts.initPid}.${facts.initStart ?? ""}`,
    startedAt: facts.startedAt ?? record.createdAt,
    createdAt: record.createdAt,
    harnesses: record.harnesses,
    confined: facts.confined,
    ...(record.owner === undefined ? {} : { owner: record.owner }),
    runDir: dir.run,
  };
}

/** What the kernel says of its memory; nothing where it ended nothing inside. */
export async function lackOfMemory({
  cgroups,
}: ProcessFacts): Promise<Pick<SandboxInfo, "outOfMemory">> {
  if ((await oomKills(cgroups)) === 0) return {};
  return { outOfMemory: { limitMib: await memoryLimitMib(cgroups) } };
}

/** Everything alive in the sandbox, init and harnessd included. */
export async function residents(facts: ProcessFacts, dir: RunDir): Promise<HostProcess[]> {
  if (!facts.confined) return await marked(facts, dir);
  return facts.namespace === undefined ? [] : await membersOf(facts.namespace);
}

/** Everything alive besides init and harnessd. */
export async function processStrangers(facts: ProcessFacts, dir: RunDir): Promise<HostProcess[]> {
  return (await residents(facts, dir)).filter(({ pid }) => !facts.spared.includes(pid));
}

/** Notes the namespace of a pid 1 that stands in one of its own. */
export async function ownNamespace(initPid: number): Promise<string | undefined> {
  const [inside, ours] = await Promise.all([pidNamespace(initPid), pidNamespace(process.pid)]);
  return inside === ours ? undefined : inside;
}

/**
 * Without a namespace: what descends from harnessd, and what still carries the sandbox's TMPDIR
 * after its parent has gone. A program that clears its environment and detaches escapes this look;
 * that is one of the reasons why such a sandbox is called unconfined.
 */
async function marked(facts: ProcessFacts, dir: RunDir): Promise<HostProcess[]> {
  const all = (await allProcesses()).filter((process) => !process.zombie);
  const family = new Set(facts.initPid === undefined ? [] : [facts.initPid]);
  for (let size = -1; size !== family.size; ) {
    size = family.size;
    for (const { pid, parent } of all) if (family.has(parent)) family.add(pid);
  }
  const mark = `TMPDIR=${join(dir.base, "tmp")}\0`;
  const found = await Promise.all(
    all.map(async ({ pid }) => {
      if (family.has(pid)) return true;
      const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
      return `${environment}\0`.includes(mark);
    }),
  );
  return all.filter((_, i) => found[i]);
}
