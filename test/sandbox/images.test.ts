import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { DecoError } from "../../src/protocol/errors.ts";
import { dockerEngine } from "../../src/sandbox/drivers/docker/engine/engine.ts";
import { contextOf, ensureRecipe } from "../../src/sandbox/drivers/docker/image/build-image.ts";
import {
  checkPlatform,
  findLocalImage,
  imagePlatform,
} from "../../src/sandbox/drivers/docker/image/local-image.ts";
import { listImages, removeImage } from "../../src/sandbox/drivers/docker/image/our-images.ts";
import { pullImage } from "../../src/sandbox/drivers/docker/image/pull-image.ts";
import { readFoundation } from "../../src/sandbox/drivers/docker/image/read-foundation.ts";
import { ensureHarnessdBinary } from "../../src/sandbox/harnessd-binary.ts";
import { readElf } from "../../src/sandbox/images/elf.ts";
import { type Recipe, recipe } from "../../src/sandbox/images/recipes.ts";
import { CACHE_DIR } from "../suites/sandbox-provider-suite.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";
import { startRegistry } from "../support/registry.ts";

const signal = AbortSignal.timeout(280_000);
const engine = dockerEngine(undefined);
const mark = Math.random().toString(16).slice(2, 10);
const docker = async (...args: string[]) =>
  (await promisify(execFile)("docker", args)).stdout.trim();
const refusal = async (work: Promise<unknown>): Promise<DecoError> => {
  const thrown = await work.then(
    () => new Error("it worked"),
    (error: unknown) => error,
  );
  return DecoError.from(thrown);
};

/** Of the image as it is now; other tests may have changed the sources meanwhile. */
const builtTag = async () => {
  const options = { cacheDir: CACHE_DIR, signal };
  return (await ensureRecipe(await recipe("harnessd", options), { ...options, engine })).tag;
};
const elfOfHarnessd = async (platform: "linux/amd64" | "linux/arm64", libc: "glibc" | "musl") =>
  await readElf(
    await ensureHarnessdBinary({ cacheDir: CACHE_DIR, signal, target: { platform, libc } }),
  );

test("harnessd for other machines is made here: 64-bit ARM, and musl", async () => {
  expect(await elfOfHarnessd("linux/arm64", "glibc")).toMatchObject({
    machine: 183,
    interpreter: "/lib/ld-linux-aarch64.so.1",
  });
  expect(await elfOfHarnessd("linux/amd64", "musl")).toMatchObject({
    machine: 62,
    interpreter: "/lib/ld-musl-x86_64.so.1",
  });
}, 120_000);

describe.skipIf(isSkipped("Docker engine", await dockerAnswers()))("images of ours", () => {
  let fresh = "";
  const tags: string[] = [];
  /** The same content under a tag of the test's own. */
  const copyOf = (wanted: Recipe, name: string): Recipe => {
    const tag = `deco-link/harnessd:test-${mark}-${name}`;
    tags.push(tag);
    return { ...wanted, tag };
  };
  beforeAll(async () => {
    fresh = await mkdtemp(join(tmpdir(), "deco-img-"));
  });
  afterAll(async () => {
    for (const tag of tags) await docker("rmi", tag).catch(() => undefined);
    await rm(fresh, { recursive: true });
  });

  test("two builds with nothing in a cache have one tag, one context and the same layers", async () => {
    const seen: { tag: string; context: string; layers: string }[] = [];
    for (const [name, cacheDir] of [
      ["one", join(fresh, "one")],
      ["two", join(fresh, "two")],
    ] as const) {
      const wanted = await recipe("harnessd", { cacheDir, signal });
      const hash = createHash("sha256");
      for await (const chunk of await contextOf(wanted, { signal })) hash.update(chunk);
      const own = copyOf(wanted, name);
      const built = await ensureRecipe(own, { engine, cacheDir, signal, afresh: true });
      expect(built.built).toBe(true);
      const layers = await docker("image", "inspect", "-f", "{{.RootFS.Layers}}", own.tag);
      seen.push({ tag: wanted.tag, context: hash.digest("hex"), layers });
    }
    const [one, two] = seen.map((facts) => JSON.stringify(facts));
    expect(two).toBe(one ?? "");
  }, 120_000);

  test("one in use is not removed, and what others built on ours is not ours", async () => {
    const wanted = copyOf(await recipe("harnessd", { cacheDir: CACHE_DIR, signal }), "rm");
    const { id } = await ensureRecipe(wanted, { engine, cacheDir: CACHE_DIR, signal });
    const container = await docker("create", wanted.tag);
    const derived = `derived-${mark}:1`;
    await docker("commit", container, derived);
    const find = async () =>
      (await listImages(engine, signal)).find((one) => one.tags.includes(wanted.tag));
    const used = await find();
    expect(used).toMatchObject({ id, digest: id, harnesses: ["shell"], containers: 1 });
    expect((await listImages(engine, signal)).flatMap((one) => one.tags)).not.toContain(derived);
    if (used === undefined) throw new Error("not listed");
    expect(await refusal(removeImage(engine, used, signal))).toMatchObject({
      code: "sandbox_busy",
    });
    await docker("rm", container);
    await docker("rmi", derived);
    const free = await find();
    if (free === undefined) throw new Error("not listed");
    expect(await removeImage(engine, free, signal)).toContain(wanted.tag);
    expect(await findLocalImage(engine, wanted.tag, signal)).toBeUndefined();
  }, 60_000);

  test("on another image, its users stay and the agent is added", async () => {
    const base = `base-${mark}:1`;
    await docker("tag", await builtTag(), base);
    try {
      const foundation = await readFoundation(engine, base, { signal });
      expect(foundation).toMatchObject({ libc: "glibc", reference: base });
      const options = { cacheDir: CACHE_DIR, foundation, signal };
      const wanted = copyOf(await recipe("harnessd", options), "base");
      const built = await ensureRecipe(wanted, { ...options, engine });
      const below = await imagePlatform(engine, base, signal);
      expect<string | undefined>(built.platform).toBe(below);
      const said = await docker("run", "--rm", "--entrypoint", "id", wanted.tag);
      expect(said).toContain("uid=1000(agent)");
    } finally {
      await docker("rmi", base);
    }
  }, 60_000);

  test("a pull tells how far it is; what fails inside its answer is image_missing", async () => {
    await using registry = await startRegistry(CACHE_DIR);
    if (isSkipped("docker-registry of Debian", registry !== undefined) || !registry) return;
    const reference = `${registry.address}/pulled:${mark}`;
    const file = join(fresh, "noise");
    await writeFile(file, randomBytes(4 * 1024 * 1024));
    const container = await docker("create", await builtTag());
    await docker("cp", file, `${container}:/noise`);
    await docker("commit", container, reference);
    await docker("rm", container);
    await docker("push", reference);
    await docker("rmi", reference);
    const told: number[] = [];
    const onProgress = (fraction: number) => void told.push(fraction);
    const found = await pullImage(engine, reference, { signal, onProgress });
    expect(told.at(-1)).toBe(1);
    expect(told.some((fraction) => fraction > 0 && fraction < 1)).toBe(true);
    expect(found.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(found.digest).not.toBe(found.id);
    await docker("rmi", reference);
    const absent = `${registry.address}/absent:1`;
    expect(await refusal(pullImage(engine, absent, { signal }))).toMatchObject({
      code: "image_missing",
      fix: expect.stringContaining(`docker pull --platform`),
    });
    const wrong = await refusal(pullImage(engine, reference, { platform: "linux/arm64", signal }));
    expect(wrong.code).toBe("image_missing");
    await docker("rmi", reference).catch(() => undefined);
  }, 60_000);

  test("an image of another platform is refused unless it was asked for", async () => {
    const found = await findLocalImage(engine, await builtTag(), signal);
    if (found === undefined) throw new Error("not built");
    const foreign = { ...found, platform: "linux/arm64" };
    expect(() => checkPlatform("x:1", foreign, undefined)).toThrow("is for linux/arm64");
    expect(() => checkPlatform("x:1", foreign, "linux/arm64")).not.toThrow();
  });
});
