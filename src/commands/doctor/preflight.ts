import { rulesPlaces } from "../../daemon/sandbox-rules.ts";
import { DecoError } from "../../protocol/errors.ts";
import { dockerEngine, type Engine } from "../../sandbox/drivers/docker/engine.ts";
import {
  checkPlatform,
  findLocalImage,
  pullFix,
} from "../../sandbox/drivers/docker/local-image.ts";
import {
  checkEmulation,
  checkEngineDisk,
  checkRunRoot,
} from "../../sandbox/drivers/docker/preflight.ts";
import { hostPlatform } from "../../sandbox/images/target.ts";
import { listTemplates } from "../../sandbox/templates/read-templates.ts";
import type { Template } from "../../sandbox/templates/template.ts";
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
      const { available } = await probeOf(patient, "docker");
      const engine = available ? dockerEngine(config) : undefined;
      const needs = await Promise.all(
        mine.map(async ({ name, template }) => {
          const found = await needOf(template, engine, signal);
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
  engine: Engine | undefined,
  signal: AbortSignal,
): Promise<Finding> {
  const { requires = {}, files = {}, env = {}, source, workspace } = template;
  const lost = (requires.files ?? []).filter((file) => !Object.hasOwn(files, file));
  if (lost.length > 0 && (workspace?.mode ?? "none") === "none") {
    return fail(`requires ${lost.join(", ")}, and nothing brings it`, "Add it to its `files`.");
  }
  const image = await imageNeed(source, engine, signal);
  if (image !== undefined) return image;
  const open = (requires.env ?? []).filter((name) => env[name] === undefined);
  if (open.length === 0) return ok("ready");
  return warn(`requires ${open.join(", ")}`, "Give it in each run's sandbox.env, or in its `env`.");
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
    return undefined;
  } catch (thrown) {
    const { message, fix } = DecoError.from(thrown);
    return fail(message, fix);
  }
}
