import { expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inPodmanWords } from "../../src/sandbox/drivers/docker/engine/podman.ts";

test("Podman is told no owner of a tmpfs, nothing under /run, and limits that this machine allows", async () => {
  const dir = await mkdtemp(join(tmpdir(), "deco-pw-"));
  const limits = join(dir, "limits");
  await writeFile(
    limits,
    "Max processes             96365                96365                processes\n" +
      "Max open files            1024                 20000                files\n",
  );
  const core = { Name: "core", Soft: 0, Hard: 0 };
  const Tmpfs = {
    "/tmp": "rw,nosuid,mode=1777,size=256m",
    "/run/harnessd": "rw,uid=1000,gid=1000,mode=0700,size=192m",
    "/home/agent": "rw,exec,uid=1000,gid=1000,mode=0700,size=256m",
  };
  const asked = { Env: ["A=b"], HostConfig: { Tmpfs, Ulimits: [core], ReadonlyRootfs: true } };
  expect(await inPodmanWords(asked, limits)).toEqual({
    Env: ["A=b", "HARNESS_DATA=/tmp/.harnessd"],
    HostConfig: {
      ReadonlyRootfs: true,
      Tmpfs: {
        "/tmp": "rw,nosuid,mode=1777,size=256m",
        "/home/agent": "rw,exec,mode=1777,size=256m,notmpcopyup",
      },
      Ulimits: [
        core,
        { Name: "nofile", Soft: 20_000, Hard: 20_000 },
        { Name: "nproc", Soft: 32_768, Hard: 32_768 },
      ],
    },
  });
  const elsewhere = await inPodmanWords(asked, join(dir, "none"));
  expect(elsewhere.HostConfig?.Ulimits).toEqual([core]);
  await rm(dir, { recursive: true });
});
