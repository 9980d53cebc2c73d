import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { DecoError } from "../../../../protocol/errors.ts";
import type { EngineTls } from "./engine-target.ts";

/** What a context of the docker CLI says of its engine. */
export interface DockerContext {
  /** As in DOCKER_HOST. */
  readonly host: string;
  readonly tls?: EngineTls;
}

const FIX = "See `docker context ls`, choose one that is there with `docker context use NAME`.";

const CliConfig = z.object({ currentContext: z.string().optional() });
const Meta = z.object({
  Endpoints: z.object({ docker: z.object({ Host: z.string().optional() }).optional() }),
});

/**
 * The context that `docker context use` chose; undefined for its default, and where there is no such file.
 *
 * @param configDir `~/.docker`, or DOCKER_CONFIG
 * @throws docker_unavailable when the file can't be read
 */
export async function currentContext(configDir: string): Promise<string | undefined> {
  const path = join(configDir, "config.json");
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  const name = parse(CliConfig, text, path).currentContext;
  return name === "" || name === "default" ? undefined : name;
}

/**
 * One context out of the CLI's store: folders are called by the SHA-256 of its name.
 *
 * @throws docker_unavailable when there is none of this name, or it names no engine
 */
export async function readContext(configDir: string, name: string): Promise<DockerContext> {
  const id = createHash("sha256").update(name).digest("hex");
  const path = join(configDir, "contexts", "meta", id, "meta.json");
  const text = await readIfThere(path);
  if (text === undefined) throw unavailable(`there is no Docker context ${name} (${path})`);
  const host = parse(Meta, text, path).Endpoints.docker?.Host;
  if (!host) throw unavailable(`the Docker context ${name} names no engine (${path})`);
  const tls = await readTls(join(configDir, "contexts", "tls", id, "docker"));
  return tls === undefined ? { host } : { host, tls };
}

/** Docker's three files in one folder; undefined where none of them is. */
export async function readTls(dir: string): Promise<EngineTls | undefined> {
  const read = (name: string) => readFile(join(dir, name)).catch(() => undefined);
  const [ca, cert, key] = await Promise.all([read("ca.pem"), read("cert.pem"), read("key.pem")]);
  if (ca === undefined && cert === undefined && key === undefined) return undefined;
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const code: unknown = cause instanceof Error && "code" in cause ? cause.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw unavailable(`${path} can't be read: ${String(cause)}`, `Make ${path} readable.`);
  }
}

function parse<T>(schema: z.ZodType<T>, text: string, path: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    throw unavailable(`${path} is not what the docker CLI writes`, `Correct or remove ${path}.`);
  }
}

function unavailable(detail: string, fix = FIX): DecoError {
  return new DecoError("docker_unavailable", detail, { fix });
}
