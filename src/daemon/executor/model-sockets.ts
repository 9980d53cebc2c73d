import { lstat } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../log.ts";
import type { ModelSocket, RunModelAccess } from "./parts.ts";

/** The model's sockets in the sandboxes' run directories, one each. */
export interface ModelSockets extends AsyncDisposable {
  /** Opens it, or finds it open. `opened` tells which. */
  open(runDir: string, uid: number): Promise<{ socket: ModelSocket; opened: boolean }>;
  /** Whether it is open and still the one that the sandbox sees. */
  isOpen(runDir: string): Promise<boolean>;
  shut(runDir: string): Promise<void>;
}

interface OpenSocket {
  readonly socket: ModelSocket;
  readonly inode: number | undefined;
}

export function createModelSockets(
  modelProxy: Pick<RunModelAccess, "openSandbox">,
  log: Log,
): ModelSockets {
  const sockets = new Map<string, OpenSocket>();
  const isOpen = async (runDir: string) => {
    const known = sockets.get(runDir);
    // A directory that was made anew, or a guest that deleted the file, leaves us listening nowhere.
    return known !== undefined && known.inode === (await inodeOf(runDir));
  };
  const shut = async (runDir: string) => {
    const known = sockets.get(runDir);
    sockets.delete(runDir);
    await known?.socket[Symbol.asyncDispose]();
  };
  return {
    isOpen,
    shut,
    open: async (runDir, uid) => {
      const known = sockets.get(runDir);
      if (known && (await isOpen(runDir))) return { socket: known.socket, opened: false };
      await shut(runDir);
      const socket = await modelProxy.openSandbox(runDir, uid);
      sockets.set(runDir, { socket, inode: await inodeOf(runDir) });
      return { socket, opened: true };
    },
    [Symbol.asyncDispose]: async () => {
      for (const runDir of sockets.keys()) {
        await shut(runDir).catch((error: unknown) => {
          log.warn({ err: error, runDir }, "a model socket did not close; going on");
        });
      }
    },
  };
}

async function inodeOf(runDir: string): Promise<number | undefined> {
  try {
    return (await lstat(join(runDir, "model.sock"))).ino;
  } catch {
    return undefined;
  }
}
