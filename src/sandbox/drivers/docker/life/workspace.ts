import { join } from "node:path";
import { Readable } from "node:stream";
import type Dockerode from "dockerode";
import { webStream } from "../../../../net/web-stream.ts";
import { DecoError } from "../../../../protocol/errors.ts";
import type { HarnessEndpoint } from "../../../provider.ts";
import { readRecord, runDirOf } from "../../../run-dir.ts";
import type { WantedSandbox } from "../../../sandbox-spec.ts";
import { checkFilling, fillWorkspace } from "../../../workspace/fill.ts";
import { hostFolder } from "../../../workspace/host-folder.ts";
import { repack } from "../../../workspace/repack.ts";
import {
  type FileChoice,
  isChosen,
  type SandboxFiles,
  sandboxFiles,
} from "../../../workspace/sandbox-files.ts";
import { type ContainerLook, lookAt } from "../container/look.ts";
import { refusedStatus } from "../engine/engine.ts";
import { type DockerSetup, type Job, look } from "../job.ts";
import { LABELS, type Names, namesOf, ownerLabel } from "../names.ts";
import { mountedAgain } from "./mounted-again.ts";

const WORKSPACE = "/workspace";

/**
 * What no driver mounts, whoever allowed it; the owner's consent was asked at the dispatch.
 *
 * @throws policy_denied, isolation_unavailable, before anything is made
 */
export function checkWorkspaceSpec(wanted: WantedSandbox): void {
  checkFilling(wanted);
  const { mode, path = "" } = wanted.workspace;
  if (mode !== "read_only" && mode !== "read_write") return;
  if (hostFolder(path) !== path) {
    throw new DecoError("policy_denied", `${path} is a link, and its folder was not looked at`);
  }
}

interface WorkspaceFacts {
  readonly names: Names;
  readonly handle: string;
  readonly instanceId: string;
  readonly wanted: WantedSandbox;
  readonly owner?: string | undefined;
}

/** What is /workspace inside: a folder of the host, or a volume of the sandbox's own. */
export function workspaceMount(facts: WorkspaceFacts): Dockerode.MountSettings {
  const { mode, path = "" } = facts.wanted.workspace;
  if (mode === "read_only" || mode === "read_write") {
    return {
      Type: "bind",
      Source: path,
      Target: WORKSPACE,
      ReadOnly: mode === "read_only",
      // What is mounted below it stays out: nobody allowed that, and it would not be read-only.
      BindOptions: { Propagation: "rprivate", NonRecursive: true },
    } as Dockerode.MountSettings;
  }
  return {
    Type: "volume",
    Source: facts.names.volume,
    Target: WORKSPACE,
    ReadOnly: false,
    VolumeOptions: {
      NoCopy: false,
      Labels: {
        [LABELS.instance]: facts.instanceId,
        [LABELS.handle]: facts.handle,
        ...ownerLabel(facts.owner),
      },
      DriverConfig: { Name: "local", Options: {} },
    },
  };
}

/**
 * Looks again at what was mounted, then brings in what the sandbox shall begin with. For one that
 * is ready, before any run.
 *
 * @throws policy_denied, workspace_failed
 */
export async function settleWorkspace(job: Job): Promise<void> {
  const { wanted, dir, stages, signal } = job;
  const found = await mountedAgain(job);
  if (wanted.workspace.mode !== "git" && Object.keys(wanted.files).length === 0) return;
  const life = found ?? (await look(job, signal));
  const endpoint = await harnessOf(job, life);
  await fillWorkspace({ wanted, dir, endpoint, stages, signal });
}

async function harnessOf({ dir }: Job, found: ContainerLook | undefined): Promise<HarnessEndpoint> {
  const record = await readRecord(dir);
  if (record === undefined) throw new DecoError("sandbox_lost", "its record is gone");
  const { token, uid, extra } = record;
  if (extra["transport"] === "gateway" && found?.port !== undefined) {
    return { url: `http://127.0.0.1:${found.port}`, token };
  }
  return { socketPath: join(dir.run, "harnessd.sock"), socketUid: uid, token };
}

/** Files of the containers of one provider. */
export function dockerFiles(
  { engine, instanceId, runRoot }: Pick<DockerSetup, "engine" | "instanceId" | "runRoot">,
  endpoint: (handle: string, signal: AbortSignal) => Promise<HarnessEndpoint>,
): SandboxFiles {
  return sandboxFiles({
    dirOf: (handle) => runDirOf(runRoot, "docker", handle),
    endpoint,
    read: async (handle, choice, signal) => {
      const name = namesOf(instanceId, handle).container;
      const found = await lookAt(engine, { name, instanceId, signal });
      if (found === undefined) throw new DecoError("sandbox_not_found", `no sandbox ${handle}`);
      return readWorkspace({ engine }, { container: found.id, handle, choice }, signal);
    },
  });
}

/** Running or stopped: the engine reads them out of the volume. */
async function readWorkspace(
  { engine }: Pick<DockerSetup, "engine">,
  o: { container: string; handle: string; choice: FileChoice },
  signal: AbortSignal,
): Promise<ReadableStream<Uint8Array>> {
  const { choice } = o;
  const path = choice.path === "" ? WORKSPACE : `${WORKSPACE}/${choice.path}`;
  const source = await engineArchive(engine, { ...o, path }, signal);
  // Members are named from the last part of the path on.
  const above = choice.path.split("/").slice(0, -1);
  const nameOf = (member: string) => {
    const parts = member.split("/").filter((part) => part !== "" && part !== ".");
    return [...above, ...(choice.path === "" ? parts.slice(1) : parts)].join("/");
  };
  return repack(source, {
    name: (entry) => {
      const name = nameOf(entry.path);
      return isChosen(choice, name, entry.kind) ? name : undefined;
    },
    target: nameOf,
  });
}

async function engineArchive(
  engine: DockerSetup["engine"],
  o: { container: string; handle: string; path: string },
  signal: AbortSignal,
): Promise<ReadableStream<Uint8Array>> {
  const get = (docker: Dockerode) => docker.getContainer(o.container).getArchive({ path: o.path });
  const stream = await engine.call("read files", get, { signal }).catch((thrown: unknown) => {
    if (refusedStatus(thrown) !== 404) throw thrown;
    throw new DecoError("file_not_found", `sandbox ${o.handle} has no ${o.path}`);
  });
  const source = new Readable().wrap(stream);
  const end = () => source.destroy();
  signal.addEventListener("abort", end, { once: true });
  source.once("close", () => signal.removeEventListener("abort", end));
  return webStream(source, {
    onCancel: () => {
      source.destroy();
      if ("destroy" in stream && typeof stream.destroy === "function") stream.destroy();
    },
    failure: (error) => error ?? new DecoError("docker_unavailable", "the engine stopped sending"),
  });
}
