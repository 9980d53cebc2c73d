import { accessSync, constants, mkdirSync } from "node:fs";
import { DecoError } from "../protocol/errors.ts";

/**
 * Makes the hub's data directory, or finds that it can be written to.
 *
 * @throws DecoError `storage_failed`, naming `--data` and the reason.
 */
export function openDataDir(dataDir: string): void {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    accessSync(dataDir, constants.W_OK | constants.X_OK);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new DecoError("storage_failed", `the hub can't keep its data in ${dataDir}: ${why}`, {
      cause,
      fix: "Name a folder that this user can write to with --data, or by DECO_HOME.",
    });
  }
}
