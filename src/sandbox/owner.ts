import { DecoError } from "../protocol/errors.ts";

/**
 * Whose a sandbox is, where no user of a hub is named. No hub can name a user of the first name.
 *
 * - `local`: the laptop's owner, by its own socket
 * - `hub`: a hub that named nobody
 * - `unknown`: it has an owner, but what says who was lost
 */
export const OWNERS = { local: "@local", hub: "@hub", unknown: "@unknown" } as const;

/** Sandboxes without a mark were made before there was one: they are everybody's. */
export function isHiddenFromHubs(owner: string | undefined): boolean {
  return owner === OWNERS.local || owner === OWNERS.unknown;
}

/**
 * Before anything of an existing sandbox, or of what is left of one, is used for somebody.
 *
 * @throws run_conflict where it is the laptop's owner's, and says no more than that it is taken
 */
export function sameOwner(
  handle: string,
  existing: string | undefined,
  asker: string | undefined,
): void {
  if (existing === OWNERS.local && asker !== OWNERS.local) throw handleTaken(handle);
}

export function handleTaken(handle: string): DecoError {
  return new DecoError("run_conflict", `the handle ${handle} is taken`, {
    fix: "Use another handle.",
  });
}
