import { readFileSync, statSync } from "node:fs";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import { PROVIDERS } from "../protocol/messages.ts";
import { type DockerEnv, ENGINE_VARIABLES } from "../sandbox/drivers/docker/engine/find-engine.ts";
import { ModelSettings, type ModelUpstreams, modelUpstreams } from "./config-model.ts";
import { type DaemonPaths, resolvePaths } from "./paths.ts";

type Env = Readonly<Record<string, string | undefined>>;

const HubUrl = z.url({ protocol: /^https?$/, error: "is no http(s) address" });
const flagBoolean = z.union([z.boolean(), z.stringbool()]);

/** What each setting may be; the same schema for a flag, a variable and config.json. */
const Settings = z.object({
  hub: HubUrl.optional(),
  name: z.string().min(1).max(255).optional(),
  port: z.coerce.number().int().min(0).max(65_535).optional(),
  tunnel: flagBoolean.default(true),
  provider: z.enum(PROVIDERS).optional(),
  allowUnconfined: flagBoolean.default(false),
  maxRuns: z.coerce.number().int().min(1).max(256).default(4),
  drainSeconds: z.coerce.number().int().min(0).max(86_400).default(30),
  keepSandboxes: z.coerce.number().int().min(0).max(256).default(4),
  idleMinutes: z.coerce.number().int().min(1).max(525_600).default(15),
  pausePool: z.coerce.number().int().min(0).max(32).default(2),
  warmSandboxes: z.coerce.number().int().min(0).max(8).default(2),
  warmMemoryMib: z.coerce.number().int().min(16).max(65_536).default(128),
  insecure: flagBoolean.default(false),
  dockerHost: z.string().min(1).optional(),
  logLevel: z.enum(["debug", "info", "warn", "error"]).default("info"),
});
type Settings = z.infer<typeof Settings>;
export type SettingName = keyof Settings;

/** Where a setting comes from and what it is for. Flag > environment > config.json > default. */
export interface Setting {
  /** As commander writes it. */
  readonly flag: `--${string}`;
  readonly env: `DECO_${string}`;
  readonly help: string;
}

/** Every setting of the daemon: a missing flag, variable or help text does not compile. */
export const SETTINGS: Readonly<Record<SettingName, Setting>> = {
  hub: { flag: "--hub <url>", env: "DECO_HUB", help: "address of the hub" },
  name: {
    flag: "--name <name>",
    env: "DECO_NAME",
    help: "name of this link in lists (default: the host name)",
  },
  port: {
    flag: "--port <port>",
    env: "DECO_PORT",
    help: "serve the signed control plane on 127.0.0.1:PORT, too (0: any free port)",
  },
  tunnel: {
    flag: "--no-tunnel",
    env: "DECO_TUNNEL",
    help: "dial no tunnel: the hub is on this machine and asks 127.0.0.1:PORT",
  },
  provider: {
    flag: "--local-sandbox-provider <provider>",
    env: "DECO_LOCAL_SANDBOX_PROVIDER",
    help: "provider of sandboxes that name none: docker, virtualbox or process",
  },
  allowUnconfined: {
    flag: "--allow-unconfined",
    env: "DECO_ALLOW_UNCONFINED",
    help: "let runs go on without confinement where nothing here can confine them",
  },
  maxRuns: { flag: "--max-runs <n>", env: "DECO_MAX_RUNS", help: "runs at the same time" },
  drainSeconds: {
    flag: "--drain-seconds <s>",
    env: "DECO_DRAIN_SECONDS",
    help: "seconds that runs get to end when the daemon is told to leave",
  },
  keepSandboxes: {
    flag: "--keep-sandboxes <n>",
    env: "DECO_KEEP_SANDBOXES",
    help: "idle sandboxes of runs without a thread that stay for a look at them",
  },
  idleMinutes: {
    flag: "--idle-minutes <n>",
    env: "DECO_IDLE_MINUTES",
    help: "minutes after which an idle sandbox of a run without a thread is removed (15)",
  },
  pausePool: {
    flag: "--pause-pool <n>",
    env: "DECO_PAUSE_POOL",
    help: "pause containers made ahead, whose network the next sandboxes join (0: none)",
  },
  warmSandboxes: {
    flag: "--warm-sandboxes <n>",
    env: "DECO_WARM_SANDBOXES",
    help: "most docker sandboxes kept ready for the specs in use (0: none)",
  },
  warmMemoryMib: {
    flag: "--warm-memory-mib <n>",
    env: "DECO_WARM_MEMORY_MIB",
    help: "most memory in MiB that sandboxes kept ready may use together",
  },
  insecure: {
    flag: "--insecure",
    env: "DECO_INSECURE",
    help: "talk to a hub off loopback without TLS",
  },
  dockerHost: {
    flag: "--docker-host <url>",
    env: "DECO_DOCKER_HOST",
    help: "address of the Docker engine (default: the one of the docker CLI)",
  },
  logLevel: {
    flag: "--log-level <level>",
    env: "DECO_LOG_LEVEL",
    help: "debug, info, warn or error",
  },
};

/** Everything that the daemon is told from outside. */
export interface Config extends Settings {
  readonly paths: DaemonPaths;
  /** User token given by the environment; the session file is read at each connect. */
  readonly userToken?: string;
  readonly userTokenFile?: string;
  readonly models: ModelUpstreams;
  /** Docker's own variables, which count behind `dockerHost`. */
  readonly dockerEnv: DockerEnv;
}

export interface LoadConfigOptions {
  readonly flags?: { readonly [K in SettingName]?: unknown };
  /** The process's own when absent. */
  readonly env?: Env;
  readonly paths?: DaemonPaths;
}

/**
 * Reads flags, environment and config.json, in this order of precedence.
 *
 * @throws DecoError `usage` naming the flag, variable or file with the wrong value.
 */
export function loadConfig(options: LoadConfigOptions = {}): Config {
  const { env = process.env, flags = {} } = options;
  const paths = options.paths ?? resolvePaths({ env });
  const file = readConfigFile(paths.configFile);
  const sources: Sources = { flags, env, file, paths };
  const values: Record<string, unknown> = {};
  for (const name of Settings.keyof().options) values[name] = pick(name, sources).value;
  return {
    ...parseSettings(values, sources),
    paths,
    ...(env["DECO_TOKEN"] ? { userToken: env["DECO_TOKEN"] } : {}),
    ...(env["DECO_TOKEN_FILE"] ? { userTokenFile: env["DECO_TOKEN_FILE"] } : {}),
    models: modelUpstreams(parseModel(file["model"], paths), env, paths.configFile),
    dockerEnv: Object.fromEntries(ENGINE_VARIABLES.map((name) => [name, env[name]])),
  };
}

/** The process's environment, for parts that look for programs on PATH. */
export function processEnv(): Env {
  return process.env;
}

type ConfigFile = Readonly<Record<string, unknown>>;

function readConfigFile(path: string): ConfigFile {
  const text = readIfThere(path);
  if (text === undefined) return {};
  const parsed = z.record(z.string(), z.unknown()).safeParse(parseJson(text, path));
  if (!parsed.success) throw wrong(path, "is not a JSON object", `Correct or remove ${path}.`);
  const names: readonly string[] = [...Settings.keyof().options, "model"];
  const unknown = Object.keys(parsed.data).find((name) => !names.includes(name));
  if (unknown === undefined) return parsed.data;
  throw wrong(path, `unknown setting ${unknown}`, `Remove it; there are ${names.join(", ")}.`);
}

function readIfThere(path: string): string | undefined {
  try {
    if (statSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw wrong(path, String(cause), `Make ${path} readable, or set another DECO_HOME.`);
  }
}

function parseModel(value: unknown, { configFile }: DaemonPaths) {
  const parsed = ModelSettings.safeParse(value ?? {});
  if (parsed.success) return parsed.data;
  throw wrong(`${configFile}: model`, firstIssue(parsed.error), `Correct ${configFile}.`);
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw wrong(path, "is not JSON", `Correct or remove ${path}.`);
  }
}

interface Sources {
  readonly flags: { readonly [K in SettingName]?: unknown };
  readonly env: Env;
  readonly file: ConfigFile;
  readonly paths: DaemonPaths;
}

/** The value that counts, and what to name when it is wrong. */
function pick(
  name: SettingName,
  { flags, env, file, paths }: Sources,
): { readonly value: unknown; readonly from: string } {
  const { flag, env: variable } = SETTINGS[name];
  if (flags[name] !== undefined) return { value: flags[name], from: flag };
  // An empty variable is an unset one, as with every shell tool.
  if (env[variable]) return { value: env[variable], from: variable };
  return { value: file[name], from: `${paths.configFile}: ${name}` };
}

function parseSettings(values: Readonly<Record<string, unknown>>, sources: Sources): Settings {
  const parsed = Settings.safeParse(values);
  if (parsed.success) return parsed.data;
  const name = Settings.keyof().safeParse(parsed.error.issues[0]?.path[0]).data ?? "hub";
  const { value, from } = pick(name, sources);
  const what = `${parsed.error.issues[0]?.message ?? "is wrong"} (got ${JSON.stringify(value)})`;
  throw wrong(from, what, `Correct ${from}: ${SETTINGS[name].help}.`);
}

function firstIssue(error: z.ZodError): string {
  const [issue] = error.issues;
  return `${issue?.path.length ? `${issue.path.join(".")}: ` : ""}${issue?.message ?? "is wrong"}`;
}

function wrong(where: string, what: string, fix: string): DecoError {
  return new DecoError("usage", `${where}: ${what}`, { fix });
}
