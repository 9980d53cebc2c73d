import { readdirSync } from "node:fs";
import { join } from "node:path";
import { DecoError } from "../../protocol/errors.ts";
import { BUILTIN_TEMPLATES } from "./builtin.ts";
import { readOwnerFile } from "./read-file.ts";
import { Template, TemplateName } from "./template.ts";

/** One template, or why its file is not one. */
export type NamedTemplate = { readonly name: string } & (
  | { readonly from: "built-in"; readonly template: Template }
  | { readonly from: "file"; readonly path: string; readonly template: Template }
  | { readonly from: "file"; readonly path: string; readonly problem: string }
);

/** Every template of this laptop by name: the files of a folder, and behind them the built-in ones. */
export function listTemplates(folder: string): NamedTemplate[] {
  const names = new Set([...Object.keys(BUILTIN_TEMPLATES), ...fileNames(folder)]);
  return [...names]
    .toSorted()
    .flatMap((name) =>
      isTemplateName(name) ? (readTemplate(folder, name) ?? []) : misnamed(folder, name),
    );
}

const isTemplateName = (name: string) => TemplateName.safeParse(name).success;

/** Nobody can ask for it; who wrote it wants to know why. */
function misnamed(folder: string, name: string): NamedTemplate {
  const problem = "no run can ask for a name with other than a-z, 0-9, - and _: rename the file";
  return { name, from: "file", path: join(folder, `${name}.json`), problem };
}

/**
 * The template of a name.
 *
 * @throws capability_missing (`knownTemplates`) for an unknown one, or one whose file is wrong
 */
export function findTemplate(folder: string, name: string): Template {
  const found = isTemplateName(name) ? readTemplate(folder, name) : undefined;
  if (found === undefined) throw unknownTemplate(name, listTemplates(folder));
  if ("template" in found) return found.template;
  throw new DecoError("capability_missing", `templates/${name}.json: ${found.problem}`, {
    fix: `Correct it on the laptop; \`deco template show ${name}\` says the same.`,
  });
}

/** capability_missing, with the names of those that work. */
export function unknownTemplate(name: string, all: readonly NamedTemplate[]): DecoError {
  const known = all.flatMap((one) => ("template" in one ? [one.name] : []));
  return new DecoError("capability_missing", `this laptop has no template "${name}"`, {
    fix: `Use one of ${known.join(", ")}; or write one on the laptop, into the folder that \`deco template ls\` names.`,
    extensions: { knownTemplates: known },
  });
}

function readTemplate(folder: string, name: string): NamedTemplate | undefined {
  const path = join(folder, `${name}.json`);
  const file = readOwnerFile(path, Template);
  if (file.type === "read") return { name, from: "file", path, template: file.value };
  if (file.type === "broken") return { name, from: "file", path, problem: file.problem };
  const template = Object.hasOwn(BUILTIN_TEMPLATES, name) ? BUILTIN_TEMPLATES[name] : undefined;
  return template && { name, from: "built-in", template };
}

function fileNames(folder: string): string[] {
  try {
    return readdirSync(folder).flatMap((file) => {
      // Editors keep theirs hidden.
      const isOurs = file.endsWith(".json") && !file.startsWith(".");
      return isOurs ? [file.slice(0, -".json".length)] : [];
    });
  } catch {
    // No folder: only the built-in ones.
    return [];
  }
}
