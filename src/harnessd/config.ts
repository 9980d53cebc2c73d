import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DecoError } from "../protocol/errors.ts";

/** Where model requests of agents go: the socket of the daemon's model proxy, or a host and port. */
export type ModelUpstream =
  | { readonly socketPath: string }
  | { readonly host: string; readonly port: number };

/** Everything harnessd takes from its environment. */
export interface HarnessdConfig {
  /** Absent: no TCP listener. */
  readonly address?: { readonly host: string; readonly port: number };
  /** Absent: no unix socket. */
  readonly socketPath?: string;
  /** Who shall own that socket, where that is not harnessd's own user. */
  readonly socketUid?: number;
  readonly workspace: string;
  readonly tokenFile: string;
  readonly allowUnauthenticated: boolean;
  /** One folder per run: `run.json` and `events.log`. */
  readonly dataDir: string;
  readonly modelUpstream: ModelUpstream;
  /** Whether a cancel ends every process but harnessd and its ancestors (sandboxes with a pid namespace). */
  readonly sweep: boolean;
  /** Most unacknowledged bytes of one run's event log; then its programs wait. */
  readonly maxLogBytes: number;
  /** What every child starts with, before the run's own environment. */
  readonly baseEnv: Readonly<Record<string, string>>;
}

type Environment = Readonly<Record<string, string | undefined>>;

const RUN_DIR = "/run/deco";
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Reads the settings of harnessd.
 *
 * @throws usage for an address, URL or number that can't be read
 */
export function readConfig(env: Environment): HarnessdConfig {
  const address = readAddress(env["HARNESS_ADDR"] ?? "0.0.0.0:8080", "HARNESS_ADDR");
  const socketPath =
    env["HARNESS_SOCKET"] ?? (existsSync(RUN_DIR) ? join(RUN_DIR, "harnessd.sock") : undefined);
  const listensOnSocket = socketPath !== undefined && socketPath !== "" && socketPath !== "off";
  return {
    ...(address ? { address } : {}),
    ...(listensOnSocket ? { socketPath } : {}),
    ...readUid(env["HARNESS_SOCKET_UID"]),
    workspace: env["HARNESS_WORKSPACE"] ?? "/workspace",
    tokenFile: env["HARNESS_TOKEN_FILE"] ?? join(RUN_DIR, "token"),
    allowUnauthenticated: env["HARNESS_ALLOW_UNAUTHENTICATED"] === "1",
    dataDir: env["HARNESS_DATA"] ?? (existsSync("/run/harnessd") ? "/run/harnessd" : tmpData()),
    modelUpstream: readUpstream(env["HARNESS_MODEL_URL"]),
    sweep: env["HARNESS_SWEEP"] === "1",
    maxLogBytes: readBytes(env["HARNESS_LOG_MIB"]),
    baseEnv: {
      PATH: env["PATH"] ?? DEFAULT_PATH,
      HOME: env["HOME"] ?? "/home/agent",
      LANG: env["LANG"] ?? "C.UTF-8",
      TERM: "dumb",
      ...(env["TMPDIR"] === undefined ? {} : { TMPDIR: env["TMPDIR"] }),
    },
  };
}

function tmpData(): string {
  return join(tmpdir(), "harnessd");
}

function readAddress(text: string, name: string): { host: string; port: number } | undefined {
  if (text === "off" || text === "") return undefined;
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:]*)):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) throw new DecoError("usage", `${name} is not host:port: ${text}`);
  return { host: match[1] ?? (match[2] || "0.0.0.0"), port };
}

function readUpstream(text: string | undefined): ModelUpstream {
  if (text === undefined || text === "") return { socketPath: join(RUN_DIR, "model.sock") };
  if (text.startsWith("/")) return { socketPath: text };
  const address = readAddress(
    text.replace(/^http:\/\//, "").replace(/\/$/, ""),
    "HARNESS_MODEL_URL",
  );
  if (!address) throw new DecoError("usage", `HARNESS_MODEL_URL is not host:port: ${text}`);
  return address;
}

function readUid(text: string | undefined): { socketUid?: number } {
  if (text === undefined) return {};
  if (!/^\d{1,10}$/.test(text)) {
    throw new DecoError("usage", `HARNESS_SOCKET_UID is not a number: ${text}`);
  }
  return { socketUid: Number(text) };
}

function readBytes(text: string | undefined): number {
  const mib = Number(text ?? "512");
  if (!Number.isFinite(mib) || mib <= 0) {
    throw new DecoError("usage", `HARNESS_LOG_MIB is not a number: ${text}`);
  }
  return Math.floor(mib * 1024 * 1024);
}
