import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";

/** A Podman of its own, with images, networks and containers that no other one sees. */
export interface PodmanService extends AsyncDisposable {
  readonly dockerHost: string;
  readonly client: Docker;
}

/** @returns undefined where there is no `podman`, or where its socket never answers */
export async function podmanService(): Promise<PodmanService | undefined> {
  const dir = await mkdtemp(join(tmpdir(), "deco-pod-"));
  const path = join(dir, "p.sock");
  const own = ["--root", `${dir}/root`, "--runroot", `${dir}/run`, "--tmpdir", `${dir}/tmp`];
  const args = [...own, "--network-config-dir", `${dir}/net`];
  const child = spawn("podman", [...args, "system", "service", "--time=0", `unix://${path}`], {
    stdio: "ignore",
  });
  const ended = once(child, "exit").catch(() => undefined);
  const end = async () => {
    // What a test that failed left runs on without the service.
    const removal = spawn("podman", [...args, "rm", "--force", "--all"], { stdio: "ignore" });
    await once(removal, "exit").catch(() => undefined);
    if (child.pid !== undefined && child.exitCode === null) child.kill("SIGTERM");
    await ended;
    // It leaves its overlay mounted.
    const unmount = spawn("umount", [`${dir}/root/overlay`], { stdio: "ignore" });
    await once(unmount, "exit").catch(() => undefined);
    await rm(dir, { recursive: true, force: true });
  };
  const client = new Docker({ socketPath: path, host: "", protocol: "http" });
  for (let look = 0; look < 100 && child.pid !== undefined && child.exitCode === null; look++) {
    const answers = await client.ping().then(
      () => true,
      () => false,
    );
    if (answers) return { dockerHost: `unix://${path}`, client, [Symbol.asyncDispose]: end };
    await Bun.sleep(100);
  }
  await end();
  return undefined;
}
