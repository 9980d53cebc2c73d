import { z } from "zod";
import { DecoError } from "../../protocol/errors.ts";
import { readOwnerFile } from "./read-file.ts";
import { ImageSource, Labels, SOURCE_FIELDS, TemplateName } from "./template.ts";

const Labelled = { labels: Labels.optional() };
const [pinned, built] = ImageSource.options;
const Runtime = z.union([pinned.extend(Labelled), built.extend(Labelled)], {
  error: `${SOURCE_FIELDS}, and labels`,
});
export type Runtime = z.infer<typeof Runtime>;

/** `<config>/runtimes.json`: which image stands for which runtime on this laptop. */
const Runtimes = z.strictObject({
  version: z.literal(1),
  runtimes: z.record(TemplateName, Runtime),
});

/** Runtimes that our own images are. */
const BUILTIN: Readonly<Record<string, Runtime>> = {
  posix: { build: "harnessd", labels: ["shell"] },
  bash: { build: "claude-code", labels: ["shell", "bash"] },
};

export interface RuntimeMap {
  readonly runtimes: Readonly<Record<string, Runtime>>;
  /** What is wrong with the file; then it has none of the owner's runtimes. */
  readonly problem?: string;
}

/** The laptop's map; the owner's file wins over a built-in one of the same name. Never throws. */
export function readRuntimes(path: string): RuntimeMap {
  const file = readOwnerFile(path, Runtimes);
  if (file.type === "broken") return { runtimes: BUILTIN, problem: file.problem };
  if (file.type === "absent") return { runtimes: BUILTIN };
  return { runtimes: { ...BUILTIN, ...file.value.runtimes } };
}

/**
 * The image of a runtime. There is no default: what is unknown is refused.
 *
 * @throws capability_missing (`knownRuntimes`)
 */
export function findRuntime(
  path: string,
  name: string,
): { readonly source: ImageSource; readonly labels: readonly string[] } {
  const { runtimes, problem } = readRuntimes(path);
  const found = Object.hasOwn(runtimes, name) ? runtimes[name] : undefined;
  if (found !== undefined) {
    const { labels = [], ...source } = found;
    return { source, labels };
  }
  const known = Object.keys(runtimes).toSorted();
  const broken = problem === undefined ? "" : ` (runtimes.json: ${problem})`;
  throw new DecoError("capability_missing", `this laptop has no runtime "${name}"${broken}`, {
    fix:
      problem === undefined
        ? `Use one of ${known.join(", ")}, or add it to runtimes.json on the laptop.`
        : "Correct runtimes.json on the laptop.",
    extensions: { knownRuntimes: known },
  });
}
