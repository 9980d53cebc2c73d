import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Rollback } from "../../../rollback.ts";
import type { RunDir, SandboxRecord } from "../../../run-dir.ts";
import type { ContainerLook } from "../container/look.ts";
import { removeForced } from "../container/remove.ts";
import type { Job } from "../job.ts";
import { pauseOf, pauseState, startPause } from "./pause.ts";

/** Where the network of a container comes from. */
export type Place =
  /** Loopback alone. */
  | { readonly kind: "none" }
  /** That of the engine's host itself. */
  | { readonly kind: "host" }
  /** An address of its own on the instance's network. */
  | { readonly kind: "network"; readonly name: string }
  /** The thread's private network and nothing else. */
  | { readonly kind: "thread"; readonly name: string }
  /** The network of a pause container, which was made ahead and is this sandbox's alone. */
  | { readonly kind: "pause"; readonly id: string };

/**
 * A place for a new container. A pause that is ready is taken; when there is none, an address of
 * its own costs less than to make one now. A pause publishes no ports, so that what needs one has
 * an address of its own.
 */
export async function choosePlace(
  { setup, wanted, dir, signal }: Job,
  { extra }: SandboxRecord,
  rollback: Rollback,
): Promise<Place> {
  if (wanted.tier === 4) return { kind: "host" };
  if (wanted.egress !== "open" && wanted.threadNetwork !== undefined) {
    const { key } = wanted.threadNetwork;
    rollback.add("network of the thread", (undo) => setup.threads.removeIfUnused(key, undo));
    return { kind: "thread", name: await setup.threads.ensure(key, signal) };
  }
  if (wanted.egress !== "open") {
    await writeHosts(dir);
    return { kind: "none" };
  }
  const published = extra["transport"] === "gateway" || wanted.ports.length > 0;
  const id =
    published || wanted.threadNetwork !== undefined ? undefined : await setup.pauses.take(signal);
  if (id === undefined) return { kind: "network", name: await setup.network.ensure(signal) };
  rollback.add("pause", (undo) => removeForced(setup.engine, id, undo));
  return { kind: "pause", id };
}

/** Puts a container that does not run yet on its thread's network, under its name and its handle. */
export async function joinThread(
  { setup, wanted, handle, signal }: Job,
  id: string,
): Promise<void> {
  if (wanted.threadNetwork === undefined) return;
  const { key, name } = wanted.threadNetwork;
  await setup.threads.join(id, { key, names: threadNames(handle, name) }, signal);
}

export const threadNames = (handle: string, name: string | undefined) =>
  name === undefined || name === handle ? [handle] : [name, handle];

export const hostsFileOf = (dir: RunDir) => join(dir.base, "hosts");

/** The engine writes none for a container that it gives no network. */
async function writeHosts(dir: RunDir): Promise<void> {
  const path = hostsFileOf(dir);
  await writeFile(path, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
  // Whatever the umask says: the sandbox's user reads it.
  await chmod(path, 0o644);
}

/** Whether what runs has lost its network, because its pause ended (`docker kill`). */
export async function hasLostPlace({ setup, signal }: Job, found: ContainerLook): Promise<boolean> {
  const id = pauseOf(found.networkMode);
  return id !== undefined && (await pauseState(setup.engine, id, signal)) !== "running";
}

/**
 * Readies the network of a container that does not run.
 *
 * @returns false when it can't be had any more: the container must be made anew
 */
export async function restorePlace(job: Job, found: ContainerLook): Promise<boolean> {
  const { setup, dir, signal } = job;
  const { engine, network } = setup;
  const id = pauseOf(found.networkMode);
  // A run directory that was wiped took it along, and the engine would make a folder in its place.
  if (found.networkMode === "none") await writeHosts(dir);
  const { threadNetwork } = job.wanted;
  if (threadNetwork !== undefined) await joinThread(job, found.id);
  if (id === undefined) {
    if (found.networkMode === network.name) await network.rejoin(found.id, signal);
    return true;
  }
  const state = await pauseState(engine, id, signal);
  if (state === "missing") return false;
  if (state === "running") return true;
  await network.rejoin(id, signal);
  await startPause(engine, id, signal);
  return true;
}
