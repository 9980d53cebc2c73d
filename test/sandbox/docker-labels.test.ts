import { afterEach, describe, expect, test } from "bun:test";
import { dockerLab } from "../support/docker-lab.ts";

const lab = await dockerLab("labels");
const signal = AbortSignal.timeout(120_000);
const image = `deco-link-test/committed:${process.pid}`;
const mine = `mine-${process.pid}`;

afterEach(async () => {
  const provider = lab.make();
  for (const { handle } of await provider.list(signal)) await provider.remove(handle, signal);
  await lab.docker
    .getContainer(mine)
    .remove({ force: true })
    .catch(() => undefined);
  await lab.docker
    .getImage(image)
    .remove({ force: true })
    .catch(() => undefined);
});

/** What `docker commit` makes of a sandbox: an image that has its labels; here of one made ahead. */
async function commit(): Promise<void> {
  const provider = lab.make();
  const { id } = await provider.ensure("first", {}, lab.context, signal);
  const [repo, tag] = image.split(":");
  const changes = [
    "LABEL dev.deco-link.role=warm",
    "LABEL dev.deco-link.thread-network=0123456789ab",
    "LABEL dev.deco-link.owner=somebody",
    "LABEL dev.deco-link.thread=theirs",
    "VOLUME /data",
  ];
  await lab.docker.getContainer(id).commit({ repo, tag, changes: changes.join("\n") });
  await provider.remove("first", signal);
}

describe.skipIf(!lab.available)("an image that was made of a sandbox", () => {
  test("passes none of its labels on to another sandbox", async () => {
    await commit();
    const provider = lab.make();
    const made = await provider.ensure("second", { image }, lab.context, signal);
    expect((await provider.list(signal)).map(({ handle }) => handle)).toEqual(["second"]);
    expect(await provider.inspect("second", signal)).toEqual(
      expect.not.objectContaining({ owner: "somebody" }),
    );
    const { Config } = await lab.docker.getContainer(made.id).inspect();
    for (const name of ["role", "thread-network", "owner", "thread"]) {
      expect(Config.Labels[`dev.deco-link.${name}`] ?? "").toBe("");
    }
    // Neither it nor what it has goes with what a daemon of before left.
    await lab.make().close?.(signal);
    expect((await provider.inspect("second", signal))?.id).toBe(made.id);
  }, 60_000);

  test("leaves no volume that it declares behind", async () => {
    await commit();
    const provider = lab.make();
    const made = await provider.ensure("fourth", { image, tier: 1 }, lab.context, signal);
    const { Mounts } = await lab.docker.getContainer(made.id).inspect();
    const name = Mounts.find(({ Destination }) => Destination === "/data")?.Name ?? "";
    expect(await lab.docker.getVolume(name).inspect()).toMatchObject({ Name: name });
    await provider.remove("fourth", signal);
    await expect(lab.docker.getVolume(name).inspect()).rejects.toMatchObject({ statusCode: 404 });
  }, 60_000);

  test("makes no container of the user's ours: it is in no list, and no daemon removes it", async () => {
    await commit();
    const made = await lab.docker.createContainer({ name: mine, Image: image });
    expect((await made.inspect()).Config.Labels).toMatchObject({
      "dev.deco-link.instance": lab.instanceId,
      "dev.deco-link.handle": "first",
      "dev.deco-link.role": "warm",
    });
    const provider = lab.make({ warmSandboxes: 1 });
    expect(await provider.list(signal)).toEqual([]);
    // The start of a daemon's work ends what one of before left ready.
    await provider.ensure("third", {}, lab.context, signal);
    await provider.remove("third", signal);
    await provider.close?.(signal);
    expect((await made.inspect()).Id).toBe(made.id);
  }, 60_000);
});
