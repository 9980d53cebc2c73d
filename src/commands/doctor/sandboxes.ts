import { silentLog } from "../../daemon/log.ts";
import { readUsedEngines } from "../../daemon/used-engines.ts";
import type { ProviderName } from "../../protocol/messages.ts";
import { dockerEngine } from "../../sandbox/drivers/docker/engine/engine.ts";
import { imageId } from "../../sandbox/drivers/docker/image/local-image.ts";
import { recipe } from "../../sandbox/images/recipes.ts";
import type { ProviderProbe } from "../../sandbox/provider.ts";
import { createProviders } from "../../sandbox/providers.ts";
import { listRecords } from "../../sandbox/run-dir.ts";
import { type Check, type Finding, fail, ok, type Patient, skip, warn } from "./check.ts";

export const sandboxChecks: readonly Check[] = [
  {
    id: "docker",
    title: "docker engine",
    fix: "Start Docker, then try again.",
    run: async (patient) => {
      const probe = await probeOf(patient, "docker");
      if (probe.available) return ok(engineWords(probe));
      const other = await probeOf(patient, "process");
      return missing(probe, other.available && other.confined);
    },
  },
  {
    id: "last-engine",
    title: "engine last used",
    fix: "Start the engine that has this home's sandboxes, or name it with --docker-host.",
    run: async (patient) => {
      const { paths } = patient.config;
      const [last] = await readUsedEngines(paths.enginesFile);
      if (last === undefined) return skip("this home has made no sandbox with Docker");
      const said = `${last.address}, ${last.usedAt}`;
      const { available, details = {} } = await probeOf(patient, "docker");
      if (!available) return warn(`${said}; no engine answers now`, `Start it: ${last.address}`);
      const { mark, address } = details;
      const others = await ofOthers(paths.runRoot, mark);
      if (last.mark === mark && others === 0) return ok(said);
      const detail =
        last.mark === mark
          ? `${said}; ${others} sandboxes are of another engine, and left alone`
          : `${said}; the one that answers now, at ${String(address)}, is another: it knows nothing of the ${others} sandboxes that were made there, and they are left alone`;
      const fix = `Start the engine that has them and name it (--docker-host), or remove what is left of them in ${paths.runRoot}.`;
      return warn(detail, fix);
    },
  },
  {
    id: "process",
    title: "process confinement",
    fix: "Install bubblewrap or util-linux.",
    run: async (patient) => {
      const probe = await probeOf(patient, "process");
      if (probe.available && probe.confined) return ok(probe.version ?? "confined");
      const docker = await probeOf(patient, "docker");
      return missing(probe, docker.available);
    },
  },
  {
    id: "images",
    title: "sandbox images",
    fix: "Run `deco image build`.",
    run: async (patient) => {
      const docker = await probeOf(patient, "docker");
      if (!docker.available) return skip("no Docker engine");
      const { config, signal } = patient;
      const { tag } = await recipe("harnessd", { cacheDir: config.paths.cache, signal });
      const engine = dockerEngine(config);
      if (await imageId(engine, tag, signal)) return ok(tag);
      return warn(
        `${tag} is not built yet`,
        "Nothing: the first run builds it, or `deco image build`.",
      );
    },
  },
  {
    id: "model",
    title: "model key",
    fix: "Correct `model` in config.json.",
    run: async ({ config: { models } }) => {
      const known = Object.entries(models).flatMap(([name, upstream]) =>
        upstream === undefined ? [] : [`${name} at ${upstream.baseUrl}`],
      );
      if (known.length > 0) return ok(known.join(", "));
      return warn(
        "no model's key is known",
        "Set ANTHROPIC_API_KEY or OPENAI_API_KEY for the daemon.",
      );
    },
  },
];

/** Sandboxes whose record names another engine than this one. */
async function ofOthers(runRoot: string, mark: unknown): Promise<number> {
  const records = await listRecords(runRoot);
  return records.filter(({ provider, extra: { engine } }) => {
    return provider === "docker" && engine !== undefined && engine !== mark;
  }).length;
}

/** Which engine it is, and why this one and no other. */
function engineWords({ version = "", arch = "", details = {} }: ProviderProbe): string {
  const { engine, address, foundBy, passedOver } = details;
  const name = engine === "podman" ? "Podman " : "";
  const silent = Array.isArray(passedOver) ? `; no answer at ${passedOver.join(", ")}` : "";
  return `${name}${version} ${arch} at ${String(address)} (${String(foundBy)}${silent})`;
}

/** Without any provider nothing can run; with the other one this is only worth knowing. */
function missing(probe: ProviderProbe, otherWorks: boolean): Finding {
  const detail = probe.reason ?? "does not work here";
  const fix = probe.fix ?? "See README.md for what a laptop needs.";
  return otherWorks ? warn(detail, fix) : fail(detail, fix);
}

/** What a provider says of itself here, now. */
export async function probeOf(
  { config, signal }: Patient,
  name: ProviderName,
): Promise<ProviderProbe> {
  const { paths, dockerHost, dockerEnv } = config;
  const provider = createProviders({
    // It only probes: nothing is made under this name.
    instanceId: "doctor",
    runRoot: paths.runRoot,
    cacheDir: paths.cache,
    log: silentLog,
    dockerHost,
    dockerEnv,
  }).get(name);
  return provider?.probe(signal) ?? { available: false, confined: false, reason: "not built in" };
}
