import { expect, test } from "bun:test";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { requireFiles } from "../../src/daemon/executor/require-files.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import type { WorkspaceSpec } from "../../src/protocol/messages.ts";
import { testDaemon } from "../support/control-daemon.ts";
import { playedProvider } from "../support/control-provider.ts";
import { runDeco } from "../support/run-deco.ts";
import { member, streamOf, tarOf } from "../support/tar-of.ts";

const signal = AbortSignal.timeout(20_000);
const there = new Map<string, Uint8Array>([
  ["file", member("file", { text: "x" })],
  ["link", member("link", { kind: "symlink", target: "file" })],
  ["folder", member("folder", { kind: "directory" })],
]);

const never = () => Promise.reject(new Error("not asked here"));

function providerWith(asked: string[]) {
  const read = async (_handle: string, { path }: { path: string }) => {
    asked.push(path);
    const found = there.get(path);
    if (found === undefined) throw new DecoError("file_not_found", path);
    return streamOf(tarOf([found]));
  };
  return { ...playedProvider(), files: { put: never, lastArchive: never, read } };
}

async function outcome(mode: WorkspaceSpec["mode"], files: string[], own: string[] = []) {
  const asked: string[] = [];
  const texts = Object.fromEntries(own.map((path) => [path, { text: "" }]));
  const spec = { workspace: { mode }, facts: { requires: { env: [], files }, files: texts } };
  const work = requireFiles({ provider: providerWith(asked), handle: "h", spec, signal });
  const missing = await work.then(
    () => "nothing",
    (thrown: unknown) => DecoError.from(thrown),
  );
  if (typeof missing === "string") return { missing, asked };
  return { code: missing.code, missing: missing.extensions["missing"], asked };
}

test.each(["git", "archive"] as const)(
  "what %s did not bring is named, folders do not count, and the template's own is not asked for",
  async (mode) => {
    expect(await outcome(mode, ["file", "link"])).toMatchObject({ missing: "nothing" });
    const wanted = ["file", "folder", "gone", "own"];
    expect(await outcome(mode, wanted, ["own"])).toEqual({
      code: "config_missing",
      missing: ["folder", "gone"],
      asked: ["file", "folder", "gone"],
    });
  },
);

test("workspaces that were looked into before the start are not again", async () => {
  expect(await outcome("none", ["gone"])).toEqual({ missing: "nothing", asked: [] });
});

test("an engine that does not answer is no missing file", async () => {
  const provider = providerWith([]);
  provider.files.read = () => Promise.reject(new DecoError("docker_unavailable", "no answer"));
  const spec = {
    workspace: { mode: "git" as const },
    facts: { requires: { env: [], files: ["a"] } },
  };
  const work = requireFiles({ provider, handle: "h", spec, signal });
  await expect(work).rejects.toMatchObject({ code: "docker_unavailable" });
});

test("a run whose archive lacks a required file fails before its harness begins, and works with the next", async () => {
  await using it = await testDaemon("http://127.0.0.1:9", { flags: { provider: "process" } });
  const { dir } = it.home;
  await mkdir(join(dir, "templates"), { recursive: true });
  const template = { version: 1, requires: { files: ["conf.json"] } };
  await writeFile(join(dir, "templates", "strict.json"), JSON.stringify(template));
  const sent = join(dir, "sent");
  await mkdir(sent);
  await writeFile(join(sent, "other"), "x");
  const words = ["run", "--local", "--json", "--template", "strict", "--thread", "t"];
  const go = async () => {
    const all = [...words, "--sync", sent, "--", "echo began"];
    const { lines } = await runDeco(all, { home: dir, timeoutMs: 60_000 });
    return lines.map((line) => JSON.parse(line));
  };
  const refused = await go();
  expect(refused.at(-1)).toMatchObject({ type: "run.failed", payload: { code: "config_missing" } });
  expect(JSON.stringify(refused)).not.toContain("began\\n");
  await writeFile(join(sent, "conf.json"), "{}");
  expect((await go()).at(-1)).toMatchObject({ type: "run.completed" });
  await runDeco(["sandbox", "prune", "--execute", "--force"], { home: dir });
}, 90_000);
