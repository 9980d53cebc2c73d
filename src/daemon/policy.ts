import { statSync } from "node:fs";
import { isAbsolute } from "node:path";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import type { Tier } from "../sandbox/sandbox-spec.ts";
import { type OwnerFile, readOwnerFile } from "../sandbox/templates/read-file.ts";

/** Who may: users as the hub names them, `*` for everybody, `@local` for this laptop's own socket. */
const Who = z.array(z.string().min(1).max(255)).max(1000);

/** `<config>/policy.json`: what the laptop's owner consents to beyond the confined tiers. */
const Policy = z.strictObject({
  version: z.literal(1),
  tiers: z.strictObject({ "3": Who.optional(), "4": Who.optional() }).optional(),
  /** Folders of this laptop that sandboxes may see, with everything below them. */
  workspaces: z
    .array(
      z.strictObject({
        path: z.string().min(1).max(4096).refine(isAbsolute, "is not an absolute path"),
        modes: z.array(z.enum(["read_only", "read_write"])).min(1),
      }),
    )
    .max(256)
    .optional(),
  /** Whether hubs see, read and remove the sandboxes of runs over the laptop's own socket, too. */
  shareLocalSandboxes: z.boolean().optional(),
});
export type Policy = z.infer<typeof Policy>;

/** For whom a sandbox is made. */
export interface Asker {
  /** As the hub says; it is its word, which alone opens no privileged tier. */
  readonly user?: string | undefined;
  /** Whether it came over the laptop's own socket, which only its owner can open. */
  readonly local: boolean;
}

/** Reads the policy anew: what the owner takes back counts from the next dispatch. Never throws. */
export function readPolicy(path: string): OwnerFile<Policy> {
  const file = readOwnerFile(path, Policy);
  if (file.type !== "read" || process.platform === "win32") return file;
  const mode = statSync(path, { throwIfNoEntry: false })?.mode ?? 0;
  if ((mode & 0o022) === 0) return file;
  return { type: "broken", problem: "may be written by others (chmod 600 mends it)" };
}

/**
 * Tiers 3 and 4 run only with the owner's written consent for this asker; without a file nobody has
 * it, not even over the laptop's own socket.
 *
 * @throws policy_denied
 */
export function allowTier(policy: OwnerFile<Policy>, tier: Tier, asker: Asker): void {
  if (tier === 1 || tier === 2) return;
  const { tiers } = granted(policy, `tier ${tier}`);
  const users = tiers?.[tier] ?? [];
  if (users.some((name) => isMeant(name, asker))) return;
  const who = asker.local ? "@local" : (asker.user ?? "*");
  throw new DecoError("policy_denied", `the policy of this laptop gives "${who}" no tier ${tier}`, {
    fix: `On the laptop, add "${who}" to "tiers": {"${tier}": […]} in policy.json.`,
  });
}

/**
 * A hub's way into a privileged sandbox: none where the owner alone may have one, for what it puts
 * there would run as such.
 *
 * @throws policy_denied
 */
export function allowHubInside(policy: OwnerFile<Policy>): void {
  const { tiers = {} } = granted(policy, "a hub inside a privileged sandbox");
  const names = [...(tiers["3"] ?? []), ...(tiers["4"] ?? [])];
  if (names.some((name) => !name.startsWith("@"))) return;
  const detail = "the policy of this laptop gives no user of a hub a privileged sandbox";
  throw new DecoError("policy_denied", detail, {
    fix: "Do it on the laptop itself, or name the user in policy.json there.",
  });
}

/**
 * The policy that a grant is looked up in.
 *
 * @throws policy_denied where there is none; a broken file grants nothing, and says so
 */
export function granted(policy: OwnerFile<Policy>, what: string): Policy {
  if (policy.type === "read") return policy.value;
  if (policy.type === "absent") {
    throw new DecoError("policy_denied", `this laptop has no policy.json, which ${what} needs`, {
      fix: "Write one on the laptop: docs/sandboxes.md, Policy.",
    });
  }
  const detail = `policy.json grants nothing as long as it is broken: ${policy.problem}`;
  throw new DecoError("policy_denied", detail, {
    fix: "Correct policy.json on the laptop; `deco doctor` there names the same line.",
  });
}

/** Names that begin with @ are ours: a hub's user of that name is nobody. */
function isMeant(name: string, { user, local }: Asker): boolean {
  if (name === "*") return true;
  if (name.startsWith("@")) return local && name === "@local";
  return name === user;
}
