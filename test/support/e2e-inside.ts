import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { z } from "zod";
import { openHubKeys } from "../../src/hub/keys.ts";
import { openStore } from "../../src/hub/store/open-store.ts";
import type { Lab } from "./e2e-lab.ts";

const ROOM = { maxBuffer: 512 * 1024 * 1024, timeout: 60_000, encoding: "buffer" } as const;

async function bytesOf(...args: string[]): Promise<Buffer> {
  const { stdout } = await promisify(execFile)("docker", args, ROOM);
  return stdout;
}

/** Everything of a running container that somebody inside, or with the engine, can read. */
export interface Inside {
  readonly inspect: Buffer;
  /** Environment and arguments of each process in it. */
  readonly processes: Buffer;
  readonly files: Buffer;
  readonly log: Buffer;
}

/** Looks as the user that everything inside runs as; more than one agent sees of another. */
export async function lookInside(container: string): Promise<Inside> {
  const within = ["exec", container];
  const [inspect, processes, files, log] = await Promise.all([
    bytesOf("inspect", container),
    bytesOf(
      ...within,
      "sh",
      "-c",
      "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; true",
    ),
    // Memory file systems are not in an export of the container, so it is asked from within. What
    // is left out is the system's own, and the programs of the image.
    bytesOf(
      ...within,
      "sh",
      "-c",
      'set -- /*; for d; do shift; case "$d" in /proc|/sys|/dev|/usr|/bin|/lib*) ;; *) set -- "$@" "$d";; esac; done; tar -cf - "$@" 2>/dev/null; true',
    ),
    bytesOf("logs", container),
  ]);
  return { inspect, processes, files, log };
}

/** Names of the places that hold one of the needles, such as `files: the laptop's key`. */
export function finds(inside: Inside, needles: Readonly<Record<string, string>>): string[] {
  return Object.entries(inside).flatMap(([place, bytes]: [string, Buffer]) =>
    Object.entries(needles).flatMap(([name, needle]) =>
      bytes.includes(needle) ? [`${place}: ${name}`] : [],
    ),
  );
}

const MachineFile = z.object({ privateJwk: z.object({ d: z.string().min(40) }) });

/** What opens the laptop, the link or the user's account: nothing of it may be in a sandbox. */
export async function linkSecrets({ hub, paths, token }: Lab): Promise<Record<string, string>> {
  const keys = openHubKeys(hub.dataDir);
  const store = openStore(hub.dataDir);
  try {
    const [link] = store.links.ofUser("ada");
    if (link === undefined) throw new Error("no link");
    const { linkId, epoch, kid, jti } = link;
    const key = Buffer.from(keys.signingKey({ kid, jti, linkId, epoch }));
    const expiresAt = Date.now() + 60_000;
    const secret = await keys.linkSecret({ user: "ada", linkId, epoch, jti, expiresAt });
    const machine = MachineFile.parse(JSON.parse(await readFile(paths.machineFile, "utf8")));
    return {
      "the user's token": token,
      // Any secret of this hub begins with the header that this one has.
      "a link secret": secret.split(".")[0] ?? "",
      "the signing key": key.toString("base64url"),
      "the signing key in hex": key.toString("hex"),
      "the laptop's private key": machine.privateJwk.d,
    };
  } finally {
    store.close();
  }
}
