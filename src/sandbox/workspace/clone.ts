import { DecoError } from "../../protocol/errors.ts";
import type { WorkspaceSpec } from "../../protocol/messages.ts";
import { harnessClient } from "../harness-client.ts";
import type { HarnessEndpoint } from "../provider.ts";

const CLONE_MS = 600_000;
const SAID_CHARS = 2000;

/**
 * Fills /workspace from a repository, by the git of the sandbox and with its rights; again is no
 * harm. Address and ref come as environment, never in the script's own text, and nothing asks for a
 * password. What is there and has a file's name is replaced.
 */
const SCRIPT = `set -eu
if ! command -v git >/dev/null 2>&1; then echo "this image has no git" >&2; exit 127; fi
# The folder is the image's, root's: without this git refuses to work in it.
git config --global --add safe.directory "$PWD"
git init -q .
git config remote.origin.url "$DECO_GIT_URL"
git config remote.origin.fetch "+refs/heads/*:refs/remotes/origin/*"
git fetch -q --tags --force origin
if [ -z "$DECO_GIT_REF" ]; then
  git remote set-head origin --auto >/dev/null
  DECO_GIT_REF=$(git symbolic-ref --short refs/remotes/origin/HEAD)
  DECO_GIT_REF=\${DECO_GIT_REF#origin/}
fi
if git show-ref -q --verify "refs/remotes/origin/$DECO_GIT_REF"; then
  git checkout -q --force -B "$DECO_GIT_REF" "refs/remotes/origin/$DECO_GIT_REF" --
else
  git checkout -q --force --detach "$DECO_GIT_REF^{commit}" --
fi
`;

/** @throws workspace_failed with what git said */
export async function cloneInside(
  endpoint: HarnessEndpoint,
  { url = "", ref = "" }: WorkspaceSpec,
  signal: AbortSignal,
): Promise<void> {
  const client = harnessClient(endpoint);
  const limited = AbortSignal.any([signal, AbortSignal.timeout(CLONE_MS)]);
  const env = {
    DECO_GIT_URL: url,
    DECO_GIT_REF: ref,
    GIT_TERMINAL_PROMPT: "0",
    // No helper, no rewriting of addresses, no other way than the network's.
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_ALLOW_PROTOCOL: "http:https",
  };
  const { runId } = await client.createRun({ prompt: SCRIPT, harness: "shell", env }, limited);
  let said = "";
  try {
    for await (const { type, payload } of client.events(runId, {}, limited)) {
      if (type === "tool.output.delta") {
        said = `${said}${String(payload["content"])}`.slice(-SAID_CHARS);
      }
      if (type === "run.completed") return;
    }
  } catch (thrown) {
    signal.throwIfAborted();
    if (!limited.aborted) throw thrown;
    said = `nothing after ${CLONE_MS / 60_000} minutes`;
  }
  throw new DecoError("workspace_failed", `git could not get ${url}: ${said.trim()}`, {
    fix: "Check the address and the ref; an image without git can't clone (use another image).",
  });
}
