import { constants, type Stats } from "node:fs";
import { type FileHandle, lstat, open } from "node:fs/promises";
import { DecoError } from "../protocol/errors.ts";

/** A socket path that was checked, and that the guest can't swap any more until it is disposed. */
export interface CheckedSocket extends AsyncDisposable {
  /** Connect here. Keep it undisposed until connected; never pool connections by this path. */
  readonly socketPath: string;
}

/** Linux: a descriptor that names the file without opening it. Not among Node's constants. */
const O_PATH = 0o10000000;

/**
 * Checks owner and kind of a socket that lies in a directory which a guest can write, where it
 * could have become a link to the daemon's own socket or to the engine's.
 *
 * On Linux what was checked is what is connected to (through /proc/self/fd). Elsewhere a guest that
 * wins a race gains a connection to a socket of its own user, no more.
 *
 * @param uid owner that the socket must have; undefined takes any.
 * @throws harness_unreachable
 */
export async function checkSocket(path: string, uid: number | undefined): Promise<CheckedSocket> {
  if (process.platform !== "linux") {
    checkStats(path, await lstat(path).catch((thrown: unknown) => refuse(path, thrown)), uid);
    return { socketPath: path, [Symbol.asyncDispose]: async () => {} };
  }
  const handle = await open(path, O_PATH | constants.O_NOFOLLOW).catch((thrown: unknown) =>
    refuse(path, thrown),
  );
  try {
    checkStats(path, await handle.stat(), uid);
  } catch (thrown) {
    await handle.close();
    throw thrown;
  }
  return held(handle);
}

function held(handle: FileHandle): CheckedSocket {
  let closed = false;
  return {
    socketPath: `/proc/self/fd/${handle.fd}`,
    [Symbol.asyncDispose]: async () => {
      if (closed) return;
      closed = true;
      await handle.close();
    },
  };
}

function checkStats(path: string, stats: Stats, uid: number | undefined): void {
  if (!stats.isSocket()) {
    throw new DecoError("harness_unreachable", `${path} is not a socket: the sandbox replaced it`);
  }
  if (uid !== undefined && stats.uid !== uid) {
    throw new DecoError(
      "harness_unreachable",
      `${path} belongs to uid ${stats.uid} instead of ${uid}: not harnessd's socket`,
    );
  }
}

function refuse(path: string, thrown: unknown): never {
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  throw new DecoError("harness_unreachable", `harnessd's socket can't be used: ${reason}`, {
    cause: thrown,
    extensions: { socketPath: path },
  });
}
