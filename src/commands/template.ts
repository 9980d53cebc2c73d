import { rulesPlaces } from "../daemon/sandbox-rules.ts";
import { DecoError } from "../protocol/errors.ts";
import { tierOf } from "../sandbox/sandbox-spec.ts";
import {
  listTemplates,
  type NamedTemplate,
  unknownTemplate,
} from "../sandbox/templates/read-templates.ts";
import { type Runtime, readRuntimes } from "../sandbox/templates/runtimes.ts";
import type { Template } from "../sandbox/templates/template.ts";
import type { Command, CommandContext } from "./command.ts";
import { printable } from "./output.ts";
import { settings } from "./settings.ts";
import { table } from "./text-table.ts";

/**
 * `deco template ls`: what this laptop's runs may ask for by name, templates and runtimes; broken files
 * are listed as such.
 */
export function list(): Command {
  return async (context) => {
    const { templates: folder, runtimes: map } = placesOf(context);
    const templates = listTemplates(folder);
    const { runtimes, problem } = readRuntimes(map);
    const broken = problem === undefined ? {} : { runtimesProblem: `${map}: ${problem}` };
    const { out } = context;
    out.result({ folder, templates, runtimes, ...broken }, () =>
      [
        table(["TEMPLATE", "FROM", "IMAGE", "TIER", "MEMORY", "LABELS", ""], templates.map(row)),
        table(["RUNTIME", "IMAGE", "LABELS"], Object.entries(runtimes).map(runtimeRow)),
      ].join("\n\n"),
    );
    out.note(out.dim(`templates are read from ${folder}, runtimes from ${map}`));
    if (problem !== undefined) out.note(`broken: ${printable(`${map}: ${problem}`)}`);
    return 0;
  };
}

/**
 * `deco template show NAME`.
 *
 * @throws DecoError capability_missing (`knownTemplates`) for an unknown name, usage for a broken file
 */
export function show(name: string): Command {
  return async (context) => {
    const all = listTemplates(placesOf(context).templates);
    const found = all.find((one) => one.name === name);
    if (found === undefined) throw unknownTemplate(name, all);
    if (!("template" in found)) {
      throw new DecoError("usage", `${found.path}: ${found.problem}`, {
        fix: "Correct that file.",
      });
    }
    const { template, ...rest } = found;
    context.out.result({ ...rest, template }, () => JSON.stringify(template, null, 2));
    return 0;
  };
}

const placesOf = ({ env }: CommandContext) => rulesPlaces(settings(env).paths.config);

function runtimeRow([name, { labels = [], ...source }]: [string, Runtime]): string[] {
  return [name, imageOf({ version: 1, source }), labels.join(", ")];
}

/** A file's words are for a terminal only without control characters. */
function row(one: NamedTemplate): string[] {
  return cells(one).map((cell) => printable(cell));
}

function cells(one: NamedTemplate): string[] {
  if (!("template" in one)) return [one.name, "file", "", "", "", "", `broken: ${one.problem}`];
  const { template } = one;
  const memory = template.resources?.memoryMib;
  return [
    one.name,
    one.from,
    imageOf(template),
    String(tierOf(template.tier)),
    memory === undefined ? "" : `${memory} MiB`,
    (template.labels ?? []).join(", "),
    template.description ?? "",
  ];
}

function imageOf({ source }: Template): string {
  if (source === undefined) return "the harness's own";
  if ("runtime" in source) return `runtime ${source.runtime}`;
  return "build" in source ? `build ${source.build}` : source.image.slice(0, 40);
}
