import { z } from "zod";
import { EnvName, HARNESSES, SandboxSpec } from "../../protocol/messages.ts";

/** Images that this version builds by itself, from this machine's own files. */
export const BUILDS = ["harnessd", "claude-code", "codex", "all"] as const;
export type BuildName = (typeof BUILDS)[number];

/** The engine's word for an operating system and an architecture. */
export const PLATFORMS = ["linux/amd64", "linux/arm64"] as const;
export type Platform = (typeof PLATFORMS)[number];

/** Names of templates and runtimes: also names of files, so no dots and slashes. */
export const TemplateName = z.string().regex(/^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$/);

/** A name may be moved to another image, a digest can't. */
const PINNED = /^([A-Za-z0-9][A-Za-z0-9._/:-]{0,180}@)?sha256:[0-9a-f]{64}$/;

/** What is said of a source that is none. */
export const SOURCE_FIELDS = `needs an image pinned by its digest (or id), or a build (${BUILDS.join(", ")}); with it a platform (${PLATFORMS.join(", ")}) at most`;

/** Where an image comes from: one that is pinned by its digest (or id), or one of our own builds. */
export const ImageSource = z.union(
  [
    z.strictObject({
      image: z.string().regex(PINNED, "is not pinned: write NAME@sha256:… or sha256:…"),
      platform: z.enum(PLATFORMS).optional(),
    }),
    z.strictObject({ build: z.enum(BUILDS), platform: z.enum(PLATFORMS).optional() }),
  ],
  { error: SOURCE_FIELDS },
);
export type ImageSource = z.infer<typeof ImageSource>;

/** What an image or a template is good for, such as `haskell`. */
export const Labels = z.array(z.string().regex(/^[a-z0-9][a-z0-9.+_-]{0,62}$/)).max(32);

/** A path below /workspace; what it resolves to is checked again where it is written. */
const WorkspacePath = z
  .string()
  .min(1)
  .max(1024)
  .refine(
    (path) => isBelow(path),
    "must be a path below the workspace, without . and .., no name over 255 bytes",
  );

const TemplateFile = z.strictObject({
  text: z.string().max(1024 * 1024),
  /** Octal, such as `0755`; 0644 when absent. */
  mode: z
    .string()
    .regex(/^0?[0-7]{3}$/)
    .optional(),
});
export type TemplateFile = z.infer<typeof TemplateFile>;

const { tier: _tier, provider, workspace, resources, egress, ports, env } = SandboxSpec.shape;

/**
 * What a run may ask for by one name: `<config>/templates/NAME.json`. What a request says itself
 * wins over it, field by field; of `env` and `resources` member by member.
 *
 * @see docs/sandboxes.md, section "Templates"
 */
export const Template = z.strictObject({
  version: z.literal(1),
  description: z.string().max(200).optional(),
  /** Exactly one of an image, a build and a runtime; the harness's own image when absent. */
  source: z
    .union([ImageSource, z.strictObject({ runtime: TemplateName })], {
      error: `${SOURCE_FIELDS}; or a runtime alone`,
    })
    .optional(),
  /** What the image can run; a run with another harness is refused before anything is made. */
  harnesses: z.array(z.enum(HARNESSES)).min(1).optional(),
  provider,
  tier: z.int().min(1).max(4).optional(),
  resources,
  ports,
  env,
  egress,
  workspace,
  /** Written into the workspace before the first start, where they are not there yet. */
  files: z.record(WorkspacePath, TemplateFile).superRefine(refuseFilesInFiles).optional(),
  /** What must be there before anything is started, else the run is refused with the fix. */
  requires: z
    .strictObject({
      env: z.array(EnvName).max(64).optional(),
      files: z.array(WorkspacePath).max(64).optional(),
    })
    .optional(),
  /** Until a started sandbox must answer, in milliseconds. */
  readyBudgetMs: z.int().min(1000).max(600_000).optional(),
  labels: Labels.optional(),
});
export type Template = z.infer<typeof Template>;

function isBelow(path: string): boolean {
  if (path.startsWith("/") || path.includes("\0") || path.includes("\\")) return false;
  return path.split("/").every((part) => isName(part));
}

/** File systems count a name's bytes. */
function isName(part: string): boolean {
  return part !== "" && part !== "." && part !== ".." && Buffer.byteLength(part) <= 255;
}

/** What is a file can't be a folder as well. */
function refuseFilesInFiles(files: Readonly<Record<string, unknown>>, c: z.RefinementCtx): void {
  for (const path of Object.keys(files)) {
    for (let at = path.indexOf("/"); at > 0; at = path.indexOf("/", at + 1)) {
      const above = path.slice(0, at);
      if (!Object.hasOwn(files, above)) continue;
      c.addIssue({ code: "custom", path: [path], message: `is below ${above}, which is a file` });
    }
  }
}
