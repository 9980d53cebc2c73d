import { DecoError } from "../protocol/errors.ts";

/** config_missing for files that must be there before anything is started (LESSONS 33). */
export function configMissing(files: readonly string[], folder?: string): DecoError {
  const what = files.join(", ");
  const where = folder ?? "the workspace";
  const there = folder === undefined ? "" : `, or write it to ${folder}`;
  return new DecoError("config_missing", `${what} must be in ${where}, and is not`, {
    fix: `Add it to \`files\` of the template (\`deco template show\`)${there}; or remove the sandbox (\`deco sandbox rm\`), if its volume was emptied.`,
    extensions: { missing: files },
  });
}
