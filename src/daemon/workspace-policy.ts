import { lstatSync, realpathSync } from "node:fs";
import { dirname, normalize } from "node:path";
import { DecoError } from "../protocol/errors.ts";
import type { WorkspaceSpec } from "../protocol/messages.ts";
import type { OwnerFile } from "../sandbox/templates/read-file.ts";
import {
  type HostFolderOptions,
  hostFolder,
  isWithin,
  realFolder,
} from "../sandbox/workspace/host-folder.ts";
import { granted, type Policy } from "./policy.ts";

/**
 * The workspace with the real path of its folder, where the owner's policy gives that folder in that
 * mode. What lies outside of every allowed folder is refused before anybody looks whether it is there.
 *
 * @throws policy_denied, invalid_request
 */
export function allowWorkspace(
  policy: OwnerFile<Policy>,
  workspace: WorkspaceSpec | undefined,
  options: HostFolderOptions,
): WorkspaceSpec | undefined {
  const { mode, path } = workspace ?? { mode: "none" };
  if (workspace === undefined || path === undefined) return workspace;
  if (mode !== "read_only" && mode !== "read_write") return workspace;
  const { workspaces = [] } = granted(policy, `a workspace of mode ${mode}`);
  const roots = workspaces.filter(({ modes }) => modes.includes(mode));
  if (!roots.some((root) => isWithin(normalize(path), normalize(root.path)))) {
    throw refused(path, mode);
  }
  // A link may lead out of the folder that was allowed, and nobody is told what is there.
  const reached = reachedBy(normalize(path));
  if (!roots.some((root) => reached !== undefined && isWithin(reached, realRoot(root.path)))) {
    throw refused(path, mode);
  }
  const real = hostFolder(path, options);
  // Asked again: it may lead elsewhere since.
  if (!roots.some((root) => isWithin(real, realRoot(root.path)))) throw refused(path, mode);
  return { ...workspace, path: real };
}

/** How far a path leads, really; undefined where it ends at a link to nothing. */
function reachedBy(path: string): string | undefined {
  try {
    return realpathSync.native(path);
  } catch {
    return isLink(path) || dirname(path) === path ? undefined : reachedBy(dirname(path));
  }
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  }
}

/** A root that is not there holds nothing. */
function realRoot(path: string): string {
  try {
    return realFolder(path);
  } catch {
    return path;
  }
}

function refused(path: string, mode: string): DecoError {
  const detail = `the policy of this laptop gives no sandbox ${path} in mode ${mode}`;
  return new DecoError("policy_denied", detail, {
    fix: `On the laptop, add {"path": "${path}", "modes": ["${mode}"]} to "workspaces" in policy.json.`,
  });
}
