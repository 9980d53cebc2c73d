import { join } from "node:path";
import { DecoError } from "../../../protocol/errors.ts";
import type { TarKind } from "../../../protocol/tar-read.ts";
import type { HarnessEndpoint, SandboxInfo, SandboxProvider } from "../../provider.ts";
import { listRecords, type RunDir, removeRunDir, runDirOf } from "../../run-dir.ts";
import { SharedWork } from "../../shared-work.ts";
import { packTree } from "../../workspace/pack-tree.ts";
import { repack } from "../../workspace/repack.ts";
import { type FileChoice, isChosen, sandboxFiles } from "../../workspace/sandbox-files.ts";
import { type Confinement, probeProcess } from "./probe.ts";
import { endForgotten, endSandbox, killProcessStrangers } from "./process-kill.ts";
import { lackOfMemory, lookAtProcess, processInfo, processStrangers } from "./process-look.ts";
import { lastLines, type ProcessProviderOptions } from "./process-options.ts";
import { ensureProcess } from "./provision.ts";
import type { ProcessSetup } from "./start-process.ts";

/** Sandboxes as confined processes of this machine (PROTOCOL.md, "Confined"); needs no engine. */
export function processProvider(options: ProcessProviderOptions): SandboxProvider {
  const works = new SharedWork<SandboxInfo>();
  const confinement = remembered((signal) => probeProcess(options, signal));
  const setup: ProcessSetup = {
    ...options,
    confinement,
    exits: new Map(),
    readyTimeoutMs: options.readyTimeoutMs ?? 30_000,
  };
  const dirOf = (handle: string) => runDirOf(options.runRoot, "process", handle);
  return {
    name: "process",
    probe: async (signal) => {
      const found = await confinement(signal);
      const { transient: _transient, ...facts } = found;
      return { ...facts, available: facts.confined || options.allowUnconfined === true };
    },
    ensure: async (handle, spec, context, signal) => {
      const info = await works.run(handle, signal, (shared) =>
        ensureProcess(setup, { handle, spec, context }, shared),
      );
      const look = await lookAtProcess(dirOf(handle));
      return { ...info, ...(look && (await lackOfMemory(look.facts))) };
    },
    list: async () => {
      const all = await listRecords(options.runRoot);
      const records = all.filter(({ provider }) => provider === "process");
      const looks = await Promise.all(records.map(({ handle }) => inspectProcess(setup, handle)));
      return looks.filter((info) => info !== undefined);
    },
    inspect: (handle) => inspectProcess(setup, handle),
    remove: (handle, signal) => removeProcess(setup, handle, signal),
    stop: async (handle, signal) => {
      const look = await lookAtProcess(dirOf(handle));
      if (look?.running) await endSandbox(look.facts, dirOf(handle), signal);
    },
    processesLeft: async (handle) => {
      const look = await lookAtProcess(dirOf(handle));
      return look?.running ? (await processStrangers(look.facts, dirOf(handle))).length : 0;
    },
    killProcesses: async (handle, signal) => {
      const look = await lookAtProcess(dirOf(handle));
      return look?.running ? await killProcessStrangers(look.facts, dirOf(handle), signal) : 0;
    },
    endpoint: (handle) => processEndpoint(setup, handle),
    files: sandboxFiles({
      dirOf,
      endpoint: (handle) => processEndpoint(setup, handle),
      read: (handle, choice) => readProcessFiles(dirOf(handle), handle, choice),
    }),
    logs: async (handle, lines) => await lastLines(join(dirOf(handle).base, "harnessd.log"), lines),
  };
}

async function removeProcess(setup: ProcessSetup, handle: string, signal: AbortSignal) {
  const dir = runDirOf(setup.runRoot, "process", handle);
  const look = await lookAtProcess(dir);
  if (look === undefined) return await endForgotten(setup.instanceId, dir, signal);
  await endSandbox(look.facts, dir, signal);
  await removeRunDir(dir);
  setup.exits.delete(handle);
}

async function inspectProcess(
  { runRoot }: ProcessSetup,
  handle: string,
): Promise<SandboxInfo | undefined> {
  const dir = runDirOf(runRoot, "process", handle);
  const look = await lookAtProcess(dir);
  return look && { ...processInfo(look, dir), ...(await lackOfMemory(look.facts)) };
}

/** The daemon reads what lies in the workspace, and follows no link in it. */
async function readProcessFiles(dir: RunDir, handle: string, choice: FileChoice) {
  if ((await lookAtProcess(dir)) === undefined) {
    throw new DecoError("sandbox_not_found", `no sandbox ${handle}`);
  }
  const { path } = choice;
  const onTheWay = (folder: string) => path === folder || path.startsWith(`${folder}/`);
  const select = (candidate: string, kind: TarKind) =>
    kind === "directory"
      ? onTheWay(candidate) || path === "" || candidate.startsWith(`${path}/`)
      : isChosen(choice, candidate, kind);
  return repack(packTree(join(dir.base, "workspace"), { select }), {
    name: (entry) => {
      const name = entry.path.replace(/\/$/, "");
      return isChosen(choice, name, entry.kind) ? name : undefined;
    },
    target: (target) => target,
  });
}

async function processEndpoint(
  { runRoot }: ProcessSetup,
  handle: string,
): Promise<HarnessEndpoint> {
  const dir = runDirOf(runRoot, "process", handle);
  const look = await lookAtProcess(dir);
  if (look === undefined) throw new DecoError("sandbox_not_found", `no sandbox ${handle}`);
  if (!look.running) throw new DecoError("sandbox_lost", `the process of ${handle} has ended`);
  const { token, uid } = look.record;
  return { socketPath: join(dir.run, "harnessd.sock"), socketUid: uid, token };
}

/** The probe starts the launcher: once a daemon is enough, unless it could not be finished. */
function remembered(probe: (signal: AbortSignal) => Promise<Confinement>) {
  let known: Promise<Confinement> | undefined;
  return async (signal: AbortSignal): Promise<Confinement> => {
    known ??= probe(signal);
    const result = await known;
    if (!result.confined && result.transient) known = undefined;
    return result;
  };
}
