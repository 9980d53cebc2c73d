import { readFile, rm, stat } from "node:fs/promises";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import { readPrivateJson, writePrivateJson } from "./private-file.ts";

const Session = z.looseObject({ token: z.string().min(1), user: z.string().optional() });
/** What `deco login` leaves: one session per hub origin. */
const SessionFile = z.looseObject({ hubs: z.record(z.string(), Session) });
export type Session = z.infer<typeof Session>;

/** Where the user token may come from, best first. */
export interface TokenSources {
  /** `DECO_TOKEN`. */
  readonly token?: string;
  /** `DECO_TOKEN_FILE`. */
  readonly tokenFile?: string;
  readonly sessionFile: string;
}

/** Reads the user token for a hub afresh: it may have been renewed since the last connect. */
export async function readUserToken(
  sources: TokenSources,
  hubUrl: string,
): Promise<string | undefined> {
  if (sources.token) return sources.token;
  if (sources.tokenFile) return readTokenFile(sources.tokenFile);
  return (await readSession(sources.sessionFile, hubUrl))?.token;
}

/** The session that `deco login` stored for a hub, if any. */
export async function readSession(path: string, hubUrl: string): Promise<Session | undefined> {
  const parsed = SessionFile.safeParse(await readPrivateJson(path));
  return parsed.success ? parsed.data.hubs[new URL(hubUrl).origin] : undefined;
}

/** Stores a session beside those of other hubs (0600). */
export async function writeSession(path: string, hubUrl: string, session: Session): Promise<void> {
  const parsed = SessionFile.safeParse(await readPrivateJson(path));
  const hubs = parsed.success ? parsed.data.hubs : {};
  await writePrivateJson(path, { hubs: { ...hubs, [new URL(hubUrl).origin]: session } });
}

const LinkFile = z.looseObject({ hub: z.string(), linkId: z.string(), epoch: z.int() });
/** What is remembered of the last registration. Its secrets stay in memory. */
export type LinkRecord = z.infer<typeof LinkFile>;

export async function readLinkRecord(path: string): Promise<LinkRecord | undefined> {
  const parsed = LinkFile.safeParse(await readPrivateJson(path));
  return parsed.success ? parsed.data : undefined;
}

export async function writeLinkRecord(path: string, record: LinkRecord): Promise<void> {
  await writePrivateJson(path, record);
}

export async function wipeLinkRecord(path: string): Promise<void> {
  await rm(path, { force: true });
}

/** Changes whenever a file that credentials come from does; what the service waits for. */
export async function credentialsStamp(sources: TokenSources): Promise<string> {
  const files = [sources.tokenFile, sources.sessionFile];
  const stamps = files.map(async (file) => {
    const found = file === undefined ? undefined : await stat(file).catch(() => undefined);
    return found === undefined ? "-" : `${found.mtimeMs}:${found.size}:${found.ino}`;
  });
  return (await Promise.all(stamps)).join(" ");
}

async function readTokenFile(path: string): Promise<string> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new DecoError("not_enrolled", `can't read DECO_TOKEN_FILE ${path}: ${String(cause)}`, {
      cause,
      fix: "Put the user token into that file, or unset DECO_TOKEN_FILE.",
    });
  });
  const token = text.trim();
  if (token !== "") return token;
  throw new DecoError("not_enrolled", `DECO_TOKEN_FILE ${path} is empty`);
}
