import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { loadConfig } from "../daemon/config.ts";
import { readUserToken } from "../daemon/credentials.ts";
import { type DaemonPaths, resolvePaths } from "../daemon/paths.ts";
import { readPrivateJson, writePrivateJson } from "../daemon/private-file.ts";
import { DecoError } from "../protocol/errors.ts";
import type { ApiTarget } from "./hub-client.ts";
import { asRecord } from "./record.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const UpFile = z.looseObject({ hub: z.string(), token: z.string(), pid: z.int() });

/** What `deco up` leaves for other commands of this home while it runs (0600, runtime folder). */
export interface UpSession extends AsyncDisposable {
  readonly file: string;
}

/** Writes the hub's address and a user token for `deco run` and others; disposing removes it. */
export async function leaveUpSession(
  paths: DaemonPaths,
  session: { readonly hub: string; readonly token: string },
): Promise<UpSession> {
  const file = upFile(paths);
  await writePrivateJson(file, { ...session, pid: process.pid });
  return { file, [Symbol.asyncDispose]: () => rm(file, { force: true }) };
}

/**
 * The hub and the user token that a command uses: --hub, DECO_HUB, a `deco up` that runs on this
 * home, config.json. The token: DECO_TOKEN, DECO_TOKEN_FILE,
 * that `deco up`, `deco login`.
 *
 * @throws DecoError `not_running` without a hub, `unauthorized` without a token.
 */
export async function findHub(
  env: Environment,
  flag: string | undefined,
): Promise<ApiTarget & { readonly url: string; readonly token: string }> {
  const paths = resolvePaths({ env });
  const up = await readUpSession(paths);
  const url = await knownHub(env, flag);
  if (url === undefined) {
    throw new DecoError("not_running", "no hub is known: no `deco up` runs on this home", {
      fix: "Start one with `deco up`, or name one with --hub or DECO_HUB.",
    });
  }
  return { url: checkUrl(url), token: await findToken(env, paths, url, up) };
}

/** The hub alone; undefined when none is known. */
export async function knownHub(
  env: Environment,
  flag: string | undefined,
): Promise<string | undefined> {
  if (flag !== undefined) return flag;
  if (env["DECO_HUB"]) return env["DECO_HUB"];
  return (await readUpSession(resolvePaths({ env })))?.hub ?? loadConfig({ env }).hub;
}

/** The daemon of this home, by its unix socket. */
export function localDaemon(env: Environment): ApiTarget & { readonly socketPath: string } {
  return { socketPath: resolvePaths({ env }).controlSocket };
}

/** @throws DecoError `usage` when it is not an http(s) URL. */
export function checkUrl(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol === "http:" || parsed?.protocol === "https:") return url;
  throw new DecoError("usage", `${url} is no http or https URL`, {
    fix: "Give the hub as https://hub.example or http://127.0.0.1:4000.",
  });
}

async function findToken(
  env: Environment,
  paths: DaemonPaths,
  url: string,
  up: z.infer<typeof UpFile> | undefined,
): Promise<string> {
  const token = env["DECO_TOKEN"];
  const tokenFile = env["DECO_TOKEN_FILE"];
  if (!token && !tokenFile && up !== undefined && sameOrigin(up.hub, url)) return up.token;
  const found = await readUserToken(
    {
      ...(token ? { token } : {}),
      ...(tokenFile ? { tokenFile } : {}),
      sessionFile: paths.sessionFile,
    },
    checkUrl(url),
  );
  if (found !== undefined) return found;
  throw new DecoError("unauthorized", `no user token for ${url}`);
}

async function readUpSession(paths: DaemonPaths): Promise<z.infer<typeof UpFile> | undefined> {
  const parsed = UpFile.safeParse(await readPrivateJson(upFile(paths)).catch(() => undefined));
  return parsed.success && isAlive(parsed.data.pid) ? parsed.data : undefined;
}

function upFile(paths: DaemonPaths): string {
  return join(paths.runtime, "up.json");
}

function sameOrigin(one: string, other: string): boolean {
  return new URL(one).origin === new URL(other).origin;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    // EPERM: it lives, and belongs to somebody else.
    return asRecord(thrown)["code"] === "EPERM";
  }
}
