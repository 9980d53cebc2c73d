import { readFile, rm } from "node:fs/promises";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import { openDb } from "../storage/open-db.ts";
import { writePrivateJson } from "./private-file.ts";

const Holder = z.looseObject({
  pid: z.int(),
  startedAt: z.string(),
  socket: z.string().optional(),
  page: z.string().optional(),
});
/** Who holds a home, for those who come second. A hint only: the lock itself is the kernel's. */
export type Holder = z.infer<typeof Holder>;

/** The right to be the one daemon of a home. */
export interface HomeLock extends AsyncDisposable {
  /** Says how to reach this daemon; shown to whoever is refused. */
  publish(holder: Holder): Promise<void>;
}

/**
 * Takes the single-instance lock of a home. The operating system holds it: kill -9 frees it, a
 * left-over file means nothing.
 *
 * @throws DecoError `already_running` (exit 9) naming the holder's pid and page.
 */
export async function takeLock(paths: {
  readonly lockFile: string;
  readonly holderFile: string;
}): Promise<HomeLock> {
  const { lockFile, holderFile } = paths;
  const db = await open(lockFile, holderFile);
  return {
    publish: (holder) => writePrivateJson(holderFile, holder),
    async [Symbol.asyncDispose]() {
      await rm(holderFile, { force: true });
      db.close();
    },
  };
}

/** The holder that was last published; says nothing about whether it still lives. */
export async function readHolder(holderFile: string): Promise<Holder | undefined> {
  const text = await readFile(holderFile, "utf8").catch(() => "null");
  try {
    const parsed = Holder.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

async function open(lockFile: string, holderFile: string) {
  try {
    return openDb(lockFile, { exclusive: true });
  } catch (thrown) {
    const error = DecoError.from(thrown);
    if (error.code !== "already_running") throw error;
    const holder = await readHolder(holderFile);
    const where = [holder?.page, holder?.socket].filter(Boolean).join(", ");
    const who = holder === undefined ? "" : `: pid ${holder.pid}${where && `, ${where}`}`;
    throw new DecoError("already_running", `a daemon runs on this home already${who}`, {
      cause: thrown,
      extensions: holder === undefined ? {} : { holder },
    });
  }
}
