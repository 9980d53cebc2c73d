import { afterAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import {
  chmod,
  mkdir,
  mkdtemp,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { createServer } from "node:http";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import type { ResolvedSpec } from "../../src/sandbox/sandbox-spec.ts";
import { runInside } from "../suites/sandbox-provider-suite.ts";
import { dockerLab } from "../support/docker-lab.ts";
import { gitImage } from "../support/git-image.ts";

const lab = await dockerLab("workspaces");
const signal = AbortSignal.timeout(240_000);
const place = await realpath(await mkdtemp(join(tmpdir(), "deco-host-")));
afterAll(() => rm(place, { recursive: true }));

async function folder(name: string): Promise<string> {
  const dir = join(place, name);
  await mkdir(dir);
  await chmod(dir, 0o777);
  await writeFile(join(dir, "mine"), "from the laptop\n");
  return dir;
}

/** A program of this machine, not of a package. */
const system = (program: string, ...args: string[]) => execFileSync(program, args);

const inside = (provider: SandboxProvider, handle: string, script: string) =>
  runInside(provider, handle, script, signal);

const spec = (mode: "read_only" | "read_write", path: string): ResolvedSpec => ({
  workspace: { mode, path },
});

describe.skipIf(!lab.available)("a folder of the laptop", () => {
  const { context, make, objects } = lab;
  test("read_only is seen and not written, whatever it is tried with", async () => {
    const dir = await folder("ro");
    const provider = make();
    await provider.ensure("ro", spec("read_only", dir), context, signal);
    const script =
      "cat mine; (echo x >new) 2>&1; rm -f mine 2>&1; mount -o remount,rw /workspace 2>&1; true";
    const { output } = await inside(provider, "ro", script);
    expect(output).toContain("from the laptop");
    expect(output.match(/Read-only file system/g)?.length).toBe(2);
    expect(await readFile(join(dir, "mine"), "utf8")).toBe("from the laptop\n");
    expect((await objects()).sandboxes.filter((name) => name.includes("volume"))).toEqual([]);
    await provider.remove("ro", signal);
    expect(await readFile(join(dir, "mine"), "utf8")).toBe("from the laptop\n");
  }, 60_000);

  test("read_write is written by the daemon's own user, or 1000 for root's, and survives the sandbox", async () => {
    const dir = await folder("rw");
    const provider = make();
    await provider.ensure("rw", spec("read_write", dir), context, signal);
    await inside(provider, "rw", "echo out >made; mkdir -p sub; chmod 4755 made");
    const uid = process.getuid?.() === 0 ? 1000 : process.getuid?.();
    expect((await stat(join(dir, "made"))).uid).toBe(uid ?? -1);
    await provider.remove("rw", signal);
    expect(await readFile(join(dir, "made"), "utf8")).toBe("out\n");
  }, 60_000);

  test("what is mounted below it stays out", async () => {
    if (process.getuid?.() !== 0) return expect(process.getuid?.()).toBeGreaterThan(0);
    const dir = await folder("under");
    await mkdir(join(dir, "disk"));
    system("mount", "-t", "tmpfs", "tmpfs", join(dir, "disk"));
    try {
      await writeFile(join(dir, "disk", "secret"), "x");
      const provider = make();
      await provider.ensure("under", spec("read_write", dir), context, signal);
      expect((await inside(provider, "under", "ls disk | wc -l")).output).toBe("0\n");
      await provider.remove("under", signal);
    } finally {
      system("umount", join(dir, "disk"));
    }
  }, 60_000);

  test.each([
    ["a link elsewhere", "/proc"],
    ["another folder", "/proc"],
    ["another folder", "/nowhere"],
  ])(
    "that is swapped for %s while it is mounted is given back, and no run begins (by %s)",
    async (what, procRoot) => {
      const dir = await folder(`swap${what.length}${procRoot.length}`);
      const other = await folder(`other${what.length}${procRoot.length}`);
      const provider = make({ procRoot });
      await provider.probe(signal);
      const swap = async () => {
        await rename(dir, `${dir}.away`);
        if (what === "another folder") await rename(other, dir);
        else await symlink(other, dir);
      };
      const swapBack = async () => {
        if (what !== "another folder") return;
        await rename(dir, other);
        await rename(`${dir}.away`, dir);
      };
      const stages: string[] = [];
      const onStage = (stage: string) => void stages.push(stage);
      const beforeStart = async () => await swap();
      const late = { ...context, onStage, beforeStart };
      const work = provider.ensure("swap", spec("read_only", dir), late, signal);
      // Back in its place by the time of the second look: only what is mounted tells.
      const watch = (async () => {
        while (!stages.includes("ready")) await Bun.sleep(2);
        await swapBack();
      })();
      await expect(work).rejects.toMatchObject({ code: "policy_denied" });
      await watch;
      expect(await provider.inspect("swap", signal)).toBeUndefined();
    },
    60_000,
  );
});

describe.skipIf(!lab.available)("a folder whose process can't be looked at", () => {
  const { context, make } = lab;

  test("is compared by a look from inside; an image that can't look gets none", async () => {
    const dir = await folder("from-inside");
    const provider = make({ procRoot: "/nowhere" });
    await provider.probe(signal);
    const { image = "" } = await provider.ensure("look", spec("read_only", dir), context, signal);
    await provider.remove("look", signal);
    const blind = `deco-test/blind:${process.pid}`;
    const input = `FROM ${image}\nENV PATH=/nowhere\n`;
    execFileSync("docker", ["build", "-q", "-t", blind, "-"], { input });
    try {
      const asked = { ...spec("read_only", dir), image: blind };
      await expect(provider.ensure("look", asked, context, signal)).rejects.toMatchObject({
        code: "policy_denied",
        message: expect.stringContaining("nobody can tell"),
      });
      expect(await provider.inspect("look", signal)).toBeUndefined();
    } finally {
      system("docker", "rmi", "-f", blind);
    }
  }, 60_000);
});

describe.skipIf(!lab.available)("a repository", () => {
  const { context, make, docker } = lab;

  test("is cloned inside, at its branch, tag or commit; what can't be cloned is told, and rolled back", async () => {
    const { Image: base } = await newestImage();
    await using image = await gitImage(base);
    await using server = await gitServer();
    const provider = make();
    const clone = (ref?: string, url = `${server.url}/repo.git`): ResolvedSpec => ({
      image: image.tag,
      workspace: { mode: "git", url, ...(ref === undefined ? {} : { ref }) },
    });
    const look = "cat file; git status --short | wc -l; git rev-parse --abbrev-ref HEAD";
    const wanted = [
      ["main", undefined, "two\n0\nmain\n"],
      ["branch", "side", "side\n0\nside\n"],
      ["tag", "v1", "one\n0\nHEAD\n"],
      ["commit", server.first, "one\n0\nHEAD\n"],
    ] as const;
    for (const [handle, ref, output] of wanted) {
      const stages: string[] = [];
      const onStage = (stage: string) => void stages.push(stage);
      await provider.ensure(handle, clone(ref), { ...context, onStage }, signal);
      expect(stages).toContain("clone");
      expect((await inside(provider, handle, look)).output).toBe(output);
    }
    await inside(provider, "main", "echo work >file");
    await provider.ensure("main", clone(), context, signal);
    expect((await inside(provider, "main", "cat file")).output).toBe("work\n");
    for (const { handle } of await provider.list(signal)) await provider.remove(handle, signal);

    const bad = [clone("nowhere"), clone(undefined, `${server.url}/none.git`)];
    for (const one of bad) {
      await expect(provider.ensure("bad", one, context, signal)).rejects.toMatchObject({
        code: "workspace_failed",
        message: expect.stringContaining("git could not get"),
      });
      expect(await provider.inspect("bad", signal)).toBeUndefined();
    }
    const without = provider.ensure("bare", { ...clone(), image: base }, context, signal);
    await expect(without).rejects.toMatchObject({
      code: "workspace_failed",
      message: expect.stringContaining("no git"),
    });
  }, 180_000);

  async function newestImage(): Promise<{ Image: string }> {
    const provider = make();
    const { image = "" } = await provider.ensure("image", {}, context, signal);
    await provider.remove("image", signal);
    expect(await docker.getImage(image).inspect()).toBeDefined();
    return { Image: image };
  }
});

/** A repository over plain http, at an address that containers reach. */
async function gitServer(): Promise<{ url: string; first: string } & AsyncDisposable> {
  const dir = await mkdtemp(join(tmpdir(), "deco-repo-"));
  const script = `set -e; git init -q -b main w; cd w; git config user.email t@example.org; git config user.name t
    echo one >file; git add .; git commit -qm one; git tag v1; echo two >file; git commit -qam two
    git checkout -q -b side; echo side >file; git commit -qam side; git checkout -q main
    cd ..; git clone -q --bare w repo.git; cd repo.git; git update-server-info; git rev-parse v1`;
  const first = execFileSync("sh", ["-c", script], { cwd: dir }).toString().trim();
  const server = createServer((request, response) => {
    try {
      const [path = ""] = (request.url ?? "").split("?");
      response.end(readFileSync(join(dir, path)));
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  return {
    url: `http://${ownAddress()}:${port}`,
    first,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(dir, { recursive: true });
    },
  };
}

function ownAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((one) => one ?? []);
  const outside = all.find(({ internal, family }) => !internal && family === "IPv4");
  return outside?.address ?? "127.0.0.1";
}
