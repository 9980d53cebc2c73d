import { readFileSync, statSync } from "node:fs";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";

const Upstream = z.strictObject({
  baseUrl: z.url({ protocol: /^https?$/ }).optional(),
  apiKey: z.string().min(1).optional(),
  /** A file of mode 0600 that holds the key alone. */
  apiKeyFile: z.string().min(1).optional(),
});

/** `model` in config.json: where the laptop's own models are and what opens them. */
export const ModelSettings = z.strictObject({
  anthropic: Upstream.optional(),
  openai: Upstream.optional(),
});
type ModelSettings = z.infer<typeof ModelSettings>;

/** One model service. The key stays in the daemon: it never goes to a hub or into a sandbox. */
export interface ModelUpstream {
  readonly baseUrl: string;
  readonly apiKey?: string;
  /** How the key is sent; the service's own way when absent. */
  readonly authHeader?: "x-api-key" | "authorization";
}

export interface ModelUpstreams {
  readonly anthropic?: ModelUpstream;
  readonly openai?: ModelUpstream;
}

const KINDS = {
  anthropic: { base: "https://api.anthropic.com", env: "ANTHROPIC" },
  openai: { base: "https://api.openai.com/v1", env: "OPENAI" },
} as const;

/**
 * The model services that this laptop can use; absent where neither key nor address is known.
 *
 * @throws DecoError `usage` when a key file can't be read or is open to others.
 */
export function modelUpstreams(
  settings: ModelSettings,
  env: Readonly<Record<string, string | undefined>>,
  configFile: string,
): ModelUpstreams {
  const anthropic = upstream("anthropic", settings, env, configFile);
  const openai = upstream("openai", settings, env, configFile);
  return { ...(anthropic ? { anthropic } : {}), ...(openai ? { openai } : {}) };
}

function upstream(
  kind: keyof typeof KINDS,
  settings: ModelSettings,
  env: Readonly<Record<string, string | undefined>>,
  configFile: string,
): ModelUpstream | undefined {
  const { base, env: prefix } = KINDS[kind];
  const file = settings[kind] ?? {};
  const bearer = env[`${prefix}_AUTH_TOKEN`];
  const apiKey =
    env[`${prefix}_API_KEY`] ||
    bearer ||
    file.apiKey ||
    (file.apiKeyFile === undefined ? undefined : readKey(file.apiKeyFile));
  const baseUrl = env[`${prefix}_BASE_URL`] || file.baseUrl;
  if (apiKey === undefined && baseUrl === undefined) return undefined;
  if (file.apiKey !== undefined) mustBePrivate(configFile);
  return {
    baseUrl: baseUrl ?? base,
    ...(apiKey === undefined ? {} : { apiKey }),
    ...(bearer && apiKey === bearer ? { authHeader: "authorization" } : {}),
  };
}

function readKey(path: string): string {
  mustBePrivate(path);
  try {
    return readFileSync(path, "utf8").trim();
  } catch (cause) {
    throw new DecoError("usage", `apiKeyFile ${path}: ${String(cause)}`, {
      cause,
      fix: `Put the key into ${path}, or correct config.json.`,
    });
  }
}

/** A key that other users of this machine can read is no secret. */
function mustBePrivate(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined || (found.mode & 0o077) === 0 || process.platform === "win32") return;
  throw new DecoError("usage", `${path} holds a key and may be read by others`, {
    fix: `Run: chmod 600 ${path}`,
  });
}
