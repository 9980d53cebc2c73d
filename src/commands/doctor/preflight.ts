import { stat } from "node:fs/promises";
import { join } from "node:path";
import { rulesPlaces } from "../../daemon/sandbox-rules.ts";
import { DecoError } from "../../protocol/errors.ts";
import { startAdvice } from "../../sandbox/drivers/docker/container/advice.ts";
import { dockerEngine, type Engine } from "../../sandbox/drivers/docker/engine/engine.ts";
import {
  checkPlatform,
  findLocalImage,
  pullFix,
} from "../../sandbox/drivers/docker/image/local-image.ts";
import {
  checkEmulation,
  checkEngineDisk,
  checkMemory,
  checkRunRoot,
} from "../../sandbox/drivers/docker/life/preflight.ts";
import { hostPlatform } from "../../sandbox/images/target.ts";
import { listTemplates } from "../../sandbox/templates/read-templates.ts";
import type { Template } from "../../sandbox/templates/template.ts";
import { asRecord } from "../record.ts";
import { type Check, type Finding, fail, ok, skip, warn } from "./check.ts";
import { probeOf } from "./sandboxes.ts";

/** What a run would be refused for before anything of it starts. */
export const preflightChecks: readonly Check[] = [
  {
    id: "sandbox-disk",
    title: "sandbox disks",
    fix: "Make room on the disks of the engine and of the runtime folder.",
    run: async (patient) => {
      const { runRoot } = patient.config.paths;
      await checkRunRoot(runRoot);
      const { details } = await probeOf(patient, "docker");
      const rootDir = details?.["rootDir"];
      if (typeof rootDir !== "string" || rootDir === "") return ok(runRoot);
      await checkEngineDisk(rootDir);
      return ok(`${runRoot}, ${rootDir}`);
    },
  },
  {
    id: "template-needs",
    title: "needs of templates",
    fix: "See `deco template show` for what a template asks for.",
    run: async (patient) => {
      const { config, signal } = patient;
      const mine = listTemplates(rulesPlaces(config.paths.config).templates).flatMap((one) =>
        one.from === "file" && "template" in one ? [one] : [],
      );
      if (mine.length === 0) return skip("no templates of your own");
      const { available, details = {} } = await probeOf(patient, "docker");
      const engine = available ? dockerEngine(config) : undefined;
      const has = await roomOf(engine, Number(details["memoryMib"] ?? 0), signal);
      const needs = await Promise.all(
        mine.map(async ({ name, template }) => {
          const found = await needOf(template, { engine, has, signal });
          return { ...found, detail: `${name}: ${found.detail}` };
        }),
      );
      const worst = ["fail", "warn"].flatMap((s) => needs.filter(({ status }) => status === s));
      return worst[0] ?? ok(mine.map(({ name }) => name).join(", "));
    },
  },
];

/** What stands in the way of one template, the worst first. */
async function needOf(
  template: Template,
  { engine, has, signal }: { engine: Engine | undefined; has: Room; signal: AbortSignal },
): Promise<Finding> {
  const { requires = {}, files = {}, env = {}, source, workspace } = template;
  const lost = (requires.files ?? []).filter((file) => !Object.hasOwn(files, file));
  const nowhere =
    (workspace?.mode ?? "none") === "none" ? lost : await notIn(workspace?.path, lost);
  if (nowhere.length > 0) {
    return fail(`requires ${nowhere.join(", ")}, and nothing brings it`, "Add it to its `files`.");
  }
  const room = roomNeed(template, has);
  if (room !== undefined) return room;
  const image = await imageNeed(source, engine, signal);
  if (image !== undefined) return image;
  const open = (requires.env ?? []).filter((name) => env[name] === undefined);
  if (open.length === 0) return ok("ready");
  return warn(
    `requires ${open.join(", ")}`,
    "Give it with each run (`deco run --env NAME`), or in its `env`.",
  );
}

/** What the engine's machine has; 0 where it does not say. */
interface Room {
  readonly memoryMib: number;
  readonly cpus: number;
}

async function roomOf(
  engine: Engine | undefined,
  memoryMib: number,
  signal: AbortSignal,
): Promise<Room> {
  const info: unknown = await engine?.call("ask its state", (docker) => docker.info(), { signal });
  const said: unknown = asRecord(info ?? {})["NCPU"];
  return { memoryMib, cpus: typeof said === "number" ? said : 0 };
}

function roomNeed({ resources = {} }: Template, has: Room): Finding | undefined {
  try {
    if (has.memoryMib > 0) checkMemory(resources, has.memoryMib);
  } catch (thrown) {
    const { message, fix } = DecoError.from(thrown);
    return fail(message, fix);
  }
  const { cpus = 0 } = resources;
  if (has.cpus === 0 || cpus <= has.cpus) return undefined;
  return fail(`${cpus} CPUs on a machine of ${has.cpus}`, `Ask for at most ${has.cpus} CPUs.`);
}

/** Those that are no files of a folder of this machine. */
async function notIn(folder: string | undefined, files: readonly string[]): Promise<string[]> {
  if (folder === undefined) return [];
  const looks = await Promise.all(
    files.map(async (file) => await stat(join(folder, file)).catch(() => undefined)),
  );
  return files.filter((_, i) => looks[i]?.isFile() !== true);
}

async function imageNeed(
  source: Template["source"],
  engine: Engine | undefined,
  signal: AbortSignal,
): Promise<Finding | undefined> {
  if (source === undefined || "runtime" in source) return undefined;
  const { platform } = source;
  try {
    if (platform !== undefined) await checkEmulation(platform);
    if (engine === undefined || !("image" in source)) return undefined;
    const found = await findLocalImage(engine, source.image, signal);
    if (found === undefined) {
      const fix = pullFix(source.image, platform ?? hostPlatform());
      return warn(`${source.image} is not here; its first run pulls it`, fix);
    }
    checkPlatform(source.image, found, platform);
    if (found.hasProgram) return undefined;
    return fail(`${source.image} starts no program`, startAdvice(source));
  } catch (thrown) {
    const { message, fix } = DecoError.from(thrown);
    return fail(message, fix);
  }
}
