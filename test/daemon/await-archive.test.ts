import { expect, test } from "bun:test";
import { awaitArchive } from "../../src/daemon/executor/await-archive.ts";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import type { SandboxFiles } from "../../src/sandbox/workspace/sandbox-files.ts";

const never = () => Promise.reject(new Error("not asked here"));

/** Only what is asked: which archive came last. */
function providerWith(last: { name?: string }): SandboxProvider {
  const files: SandboxFiles = {
    put: never,
    read: never,
    lastArchive: () => Promise.resolve(last.name),
  };
  return { ...withoutFiles, files };
}

const withoutFiles: SandboxProvider = {
  name: "virtualbox",
  probe: never,
  ensure: never,
  list: never,
  inspect: never,
  remove: never,
  processesLeft: never,
  killProcesses: never,
  endpoint: never,
};

function waiting(provider: SandboxProvider, ref?: string, waitMs = 5_000) {
  const said: string[] = [];
  const workspace = { mode: "archive" as const, ...(ref === undefined ? {} : { ref }) };
  const done = awaitArchive({
    provider,
    handle: "h",
    spec: { workspace },
    say: () => void said.push("waits"),
    signal: AbortSignal.timeout(10_000),
    waitMs,
  });
  return { said, done };
}

test("a run waits for the archive of its own name, and says so once", async () => {
  const last: { name?: string } = { name: "of the run before" };
  const { said, done } = waiting(providerWith(last), "mine");
  await Bun.sleep(150);
  expect(said).toEqual(["waits"]);
  last.name = "mine";
  await done;
  expect(said).toEqual(["waits"]);
});

test("a run without a name takes any archive, and one that is there already is not waited for", async () => {
  const any = waiting(providerWith({ name: "" }));
  await any.done;
  expect(any.said).toEqual([]);
});

test("an archive that never comes ends the run with what to do", async () => {
  const { done } = waiting(providerWith({}), "mine", 200);
  await expect(done).rejects.toMatchObject({
    code: "workspace_failed",
    fix: expect.stringContaining("deco run --sync"),
  });
});

test("a provider that takes no archives is refused", async () => {
  await expect(waiting(withoutFiles).done).rejects.toMatchObject({ code: "isolation_unavailable" });
});
