import { expect, test } from "bun:test";
import { homedir } from "node:os";
import { DecoError } from "../../../src/protocol/errors.ts";
import { globMatcher } from "../../../src/protocol/glob.ts";
import { type TarEntry, TarReader } from "../../../src/protocol/tar-read.ts";
import { harnessClient } from "../../../src/sandbox/harness-client.ts";
import type { EnsureContext, SandboxProvider } from "../../../src/sandbox/provider.ts";
import { onlyFile } from "../../../src/sandbox/workspace/repack.ts";
import type { FileChoice, SandboxFiles } from "../../../src/sandbox/workspace/sandbox-files.ts";
import { member, streamOf, tarOf } from "../../support/tar-of.ts";

export interface WorkspaceScenarios {
  readonly instance: () => Promise<{ provider: SandboxProvider; context: EnsureContext }>;
  readonly runInside: (
    provider: SandboxProvider,
    handle: string,
    prompt: string,
    signal: AbortSignal,
  ) => Promise<{ output: string }>;
  readonly signal: AbortSignal;
  readonly gaps: readonly string[];
}

const END_HARNESSD = `for p in /proc/[0-9]*; do case "$(readlink $p/exe)" in
  */harnessd) kill -KILL "\${p#/proc/}";; esac; done`;

export function filesOf({ files }: SandboxProvider): SandboxFiles {
  if (files === undefined) throw new Error("a provider without files");
  return files;
}

async function everything(
  provider: SandboxProvider,
  handle: string,
  choice: FileChoice,
  signal: AbortSignal,
): Promise<(TarEntry & { text: string })[]> {
  const found: { entry: TarEntry; text: string }[] = [];
  const reader = new TarReader({
    entry: (entry) => void found.push({ entry, text: "" }),
    data: (bytes) => {
      const last = found.at(-1);
      if (last) last.text += Buffer.from(bytes).toString();
    },
  });
  for await (const chunk of await filesOf(provider).read(handle, choice, signal))
    reader.push(chunk);
  reader.end();
  return found.map(({ entry, text }) => ({ ...entry, text }));
}

export async function textOf(
  provider: SandboxProvider,
  handle: string,
  path: string,
  signal: AbortSignal,
): Promise<string> {
  const { body } = await onlyFile(await filesOf(provider).read(handle, { path }, signal));
  return await new Response(body).text();
}

/** Files go in by one tar and come back, whatever the provider. */
export function workspaceScenarios({
  instance,
  runInside,
  signal,
  gaps,
}: WorkspaceScenarios): void {
  test("an archive is unpacked with the rights of the sandbox, and its name is kept", async () => {
    const { provider, context } = await instance();
    const spec = { workspace: { mode: "archive" } } as const;
    await provider.ensure("tar", spec, context, signal);
    const files = filesOf(provider);
    expect(await files.lastArchive("tar")).toBeUndefined();
    const body = streamOf(
      tarOf([
        member("bin", { kind: "directory", mode: 0o755 }),
        member("bin/hi", { text: "#!/bin/sh\necho hi\n", mode: 0o755 }),
        member("data", { text: "x".repeat(100_000), mode: 0o600 }),
        member("link", { kind: "symlink", target: "bin/hi" }),
      ]),
    );
    const totals = await files.put("tar", { body, name: "first" }, signal);
    expect(totals).toEqual({ files: 3, bytes: 100_018 });
    expect(await files.lastArchive("tar")).toBe("first");
    const script = `./link; stat -c '%a %s' bin/hi data; [ "$(stat -c %u data)" = "$(id -u)" ] && echo mine`;
    const { output } = await runInside(provider, "tar", script, signal);
    expect(output).toBe("hi\n755 18\n600 100000\nmine\n");
    await provider.remove("tar", signal);
  }, 60_000);

  test("a hostile archive is refused, and a run can't be told that it came", async () => {
    const { provider, context } = await instance();
    await provider.ensure("bad", { workspace: { mode: "archive" } }, context, signal);
    const files = filesOf(provider);
    const hostile = [
      [member("../out", { text: "x" })],
      [member("/abs", { text: "x" })],
      [member("l", { kind: "symlink", target: "/run/deco" }), member("l/token", { text: "x" })],
      [member("h", { kind: "hardlink", target: "../../etc/passwd" })],
      [member("dev", { type: "3" })],
    ];
    for (const members of hostile) {
      const body = streamOf(tarOf(members));
      await expect(files.put("bad", { body, name: "n" }, signal)).rejects.toMatchObject({
        code: "archive_invalid",
      });
    }
    expect(await files.lastArchive("bad")).toBeUndefined();
    const missing = files.put("gone", { body: streamOf(tarOf([])) }, signal);
    await expect(missing).rejects.toMatchObject({ code: "sandbox_not_found" });
    await provider.remove("bad", signal);
  }, 60_000);

  test.skipIf(gaps.includes("links"))(
    "files are read back, also of a sandbox that has stopped, and no link leads out",
    async () => {
      const { provider, context } = await instance();
      await provider.ensure("read", {}, context, signal);
      const make = `mkdir -p out/deep && echo one >out/a.txt && echo two >out/deep/b.txt && echo no >c.log
      ln -s /etc/passwd out/away && ln out/a.txt out/twin.txt && mkfifo out/pipe && ln -s out way && chmod 640 c.log`;
      await runInside(provider, "read", make, signal);
      const look = async () => {
        expect(await textOf(provider, "read", "out/deep/b.txt", signal)).toBe("two\n");
        const all = await everything(provider, "read", { path: "" }, signal);
        const names = all.map(({ path }) => path.replace(/\/$/, "")).toSorted();
        expect(names).toEqual(
          [
            "c.log",
            "out",
            "out/a.txt",
            "out/away",
            "out/deep",
            "out/deep/b.txt",
            "out/twin.txt",
          ].concat("way"),
        );
        expect(all.find(({ path }) => path === "c.log")).toMatchObject({
          mode: 0o640,
          text: "no\n",
        });
        const select = globMatcher(["out/**/*.txt"]);
        const some = await everything(provider, "read", { path: "", select }, signal);
        expect(some.map(({ path }) => path).toSorted()).toEqual([
          "out/a.txt",
          "out/deep/b.txt",
          "out/twin.txt",
        ]);
        for (const path of ["out/away", "out/none", "out", "out/pipe"]) {
          await expect(textOf(provider, "read", path, signal)).rejects.toMatchObject({
            code: "file_not_found",
          });
        }
      };
      await look();
      const client = harnessClient(await provider.endpoint("read", signal));
      await client.createRun({ prompt: END_HARNESSD }, signal).catch(() => undefined);
      while ((await provider.inspect("read", signal))?.status !== "stopped") await Bun.sleep(50);
      await look();
      const stopped = filesOf(provider).put("read", { body: streamOf(tarOf([])) }, signal);
      await expect(stopped).rejects.toMatchObject({ code: "sandbox_lost" });
      await expect(textOf(provider, "none", "a", signal)).rejects.toMatchObject({
        code: "sandbox_not_found",
      });
      await provider.remove("read", signal);
    },
    60_000,
  );

  test("a template's files are there before the first run, and never written over", async () => {
    const { provider, context } = await instance();
    const spec = {
      facts: { files: { "conf/a.json": { text: "{}" }, run: { text: "echo ran", mode: "0755" } } },
    };
    await provider.ensure("files", spec, context, signal);
    const first = await runInside(
      provider,
      "files",
      "sh run; cat conf/a.json; echo mine >run",
      signal,
    );
    expect(first.output).toBe("ran\n{}");
    await provider.ensure("files", spec, context, signal);
    expect((await runInside(provider, "files", "cat run", signal)).output).toBe("mine\n");
    await provider.remove("files", signal);
  }, 60_000);

  test("a folder that no sandbox may have, and a clone without a network, are refused before anything is made", async () => {
    const { provider, context } = await instance();
    const bad = [
      { workspace: { mode: "read_write", path: "/" } },
      { workspace: { mode: "read_only", path: homedir() } },
      { workspace: { mode: "read_only", path: "/etc" } },
      { workspace: { mode: "git", url: "https://example.org/x.git" }, egress: "none" },
    ] as const;
    for (const spec of bad) {
      const { code } = DecoError.from(
        await provider.ensure("no", spec, context, signal).catch((thrown: unknown) => thrown),
      );
      expect(["policy_denied", "isolation_unavailable"]).toContain(code);
    }
    expect(await provider.list(signal)).toEqual([]);
  });

  test("a sandbox that is stopped runs nothing, keeps its files, and is started again by the next ensure", async () => {
    const { provider, context } = await instance();
    const first = await provider.ensure("stopped", {}, context, signal);
    await runInside(provider, "stopped", "echo kept >file; setsid sleep 600 &", signal);
    await provider.stop?.("stopped", signal);
    const { status } = (await provider.inspect("stopped", signal)) ?? {};
    expect({ status, left: await provider.processesLeft("stopped", signal) }).toEqual({
      status: "stopped",
      left: 0,
    });
    await provider.stop?.("stopped", signal);
    await provider.stop?.("none", signal);
    const again = await provider.ensure("stopped", {}, context, signal);
    expect(again.startedAt).not.toBe(first.startedAt);
    const { output } = await runInside(provider, "stopped", "cat file", signal);
    expect(output).toBe("kept\n");
    await provider.remove("stopped", signal);
  }, 60_000);
}
