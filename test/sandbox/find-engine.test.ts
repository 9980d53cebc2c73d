import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { dockerEngine } from "../../src/sandbox/drivers/docker/engine/engine.ts";
import {
  type DockerEnv,
  findEngine,
  type Machine,
  usualSockets,
} from "../../src/sandbox/drivers/docker/engine/find-engine.ts";
import { probeDocker } from "../../src/sandbox/drivers/docker/engine/probe.ts";
import { skipped } from "../suites/sandbox-provider-suite.ts";
import { engineDoor } from "../support/engine-door.ts";
import { fakeEngine } from "../support/engine-fake.ts";
import { dockerAnswers } from "../support/engines.ts";

const signal = AbortSignal.timeout(60_000);
let dir = "";
let machine: Machine = {};
const idOf = (name: string) => createHash("sha256").update(name).digest("hex");

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "deco-fe-"));
  machine = { root: dir, home: join(dir, "home"), platform: "linux", pingMs: 300 };
});
afterEach(async () => await rm(dir, { recursive: true }));

const config = () => join(dir, "home/.docker");

async function put(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
}

/** As `docker context create NAME --docker host=…` writes it. */
async function putContext(name: string, host: string, configDir = config()): Promise<void> {
  const meta = { Name: name, Metadata: {}, Endpoints: { docker: { Host: host } } };
  await put(join(configDir, "contexts/meta", idOf(name), "meta.json"), JSON.stringify(meta));
}

const useContext = (name: string, configDir = config()) =>
  put(join(configDir, "config.json"), JSON.stringify({ auths: {}, currentContext: name }));

const found = (dockerEnv: DockerEnv, dockerHost?: string) =>
  findEngine({ dockerHost, dockerEnv }, machine);

const rejects = async (text: string) =>
  await expect(findEngine({}, machine)).rejects.toMatchObject({
    code: "docker_unavailable",
    message: expect.stringContaining(text),
  });

describe("the engine is the one that the docker CLI would take", () => {
  test("the setting wins over DOCKER_HOST, that over DOCKER_CONTEXT, that over the current context", async () => {
    await putContext("chosen", "unix:///chosen.sock");
    await putContext("current", "unix:///current.sock");
    await useContext("current");
    const env = { DOCKER_HOST: "unix:///host.sock", DOCKER_CONTEXT: "chosen" };
    expect(await found(env, "unix:///set.sock")).toMatchObject({
      address: "/set.sock",
      why: "the setting docker-host",
      sure: true,
    });
    expect(await found(env)).toMatchObject({ address: "/host.sock", why: "DOCKER_HOST" });
    expect(await found({ ...env, DOCKER_HOST: "" })).toMatchObject({
      address: "/chosen.sock",
      why: "the Docker context chosen of DOCKER_CONTEXT",
    });
    expect(await found({})).toMatchObject({
      address: "/current.sock",
      why: `the Docker context current of ${config()}/config.json`,
    });
    expect(await found({ DOCKER_CONTEXT: "default" })).toMatchObject({
      address: join(dir, "var/run/docker.sock"),
      sure: true,
    });
  });

  test("DOCKER_CONFIG moves the contexts, and the chosen default is as none chosen", async () => {
    const elsewhere = join(dir, "elsewhere");
    await putContext("lima", "unix:///lima.sock", elsewhere);
    await useContext("lima", elsewhere);
    const dockerEnv = { DOCKER_CONFIG: elsewhere };
    expect((await findEngine({ dockerEnv }, machine)).address).toBe("/lima.sock");
    await useContext("default", elsewhere);
    expect((await findEngine({ dockerEnv }, machine)).why).toBe("the default socket");
  });

  test("a context's TLS files are used, for an engine on loopback", async () => {
    await putContext("tls", "tcp://127.0.0.1:2399");
    await useContext("tls");
    const tls = join(config(), "contexts/tls", idOf("tls"), "docker");
    for (const name of ["ca", "cert", "key"]) await put(join(tls, `${name}.pem`), name);
    const { options } = await findEngine({}, machine);
    expect(options).toMatchObject({ host: "127.0.0.1", port: "2399", protocol: "https" });
    const files = ["ca", "cert", "key"].map((name) => Buffer.from(name));
    expect([options.ca, options.cert, options.key]).toEqual(files);
    const dockerEnv = { DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: tls };
    const byHost = await findEngine({ dockerHost: "tcp://[::1]:2375", dockerEnv }, machine);
    expect(byHost.options).toMatchObject({ host: "::1", protocol: "https" });
    expect(byHost.options.key).toEqual(Buffer.from("key"));
  });

  test("an engine on another machine is refused, and no password of its address is told", async () => {
    for (const host of ["ssh://me:secret@box", "tcp://192.0.2.1:2376", "nonsense"]) {
      const refusal = { code: "docker_unavailable", fix: expect.stringContaining("this machine") };
      await expect(findEngine({ dockerHost: host }, machine)).rejects.toMatchObject(refusal);
      await putContext("far", host);
      const dockerEnv = { DOCKER_CONTEXT: "far" };
      const engine = dockerEngine({ dockerEnv }, 1_000, machine);
      const probe = await probeDocker(engine, signal);
      expect(probe).toMatchObject({
        available: false,
        fix: expect.stringContaining("context use"),
      });
      expect(probe.reason).toContain("the Docker context far of DOCKER_CONTEXT");
      expect(probe.reason).not.toContain("secret");
    }
  });

  test("what is no address of an engine is told with one that is, not as another machine's", async () => {
    for (const dockerHost of ["/var/run/docker.sock", "unix://", "fd://", "tcp://:2375"]) {
      await expect(findEngine({ dockerHost }, machine)).rejects.toMatchObject({
        code: "docker_unavailable",
        message: `${dockerHost} (the setting docker-host) is no address of an engine`,
        fix: expect.stringContaining("unix:///path/docker.sock"),
      });
    }
  });

  test("an engine on loopback is named without the password of its address", async () => {
    const dockerHost = "tcp://me:secret@127.0.0.1:2375";
    expect((await findEngine({ dockerHost }, machine)).address).toBe("tcp://me@127.0.0.1:2375");
  });

  test("a context that is not there, names no engine, or is no JSON says so with its file", async () => {
    await useContext("lost");
    await rejects("there is no Docker context lost");
    const meta = join(config(), "contexts/meta", idOf("lost"), "meta.json");
    await put(meta, JSON.stringify({ Endpoints: {} }));
    await rejects("names no engine");
    await put(meta, "{");
    await rejects("is not what the docker CLI writes");
    await put(join(config(), "config.json"), "no JSON");
    await rejects("config.json is not what the docker CLI writes");
    await rm(join(config(), "config.json"));
    await mkdir(join(config(), "config.json"));
    await rejects("config.json can't be read");
  });
});

describe("without a name the first usual socket that answers is taken", () => {
  test("in the order Docker, Docker Desktop, OrbStack, Colima, rootless, Podman", () => {
    const paths = usualSockets({ XDG_RUNTIME_DIR: "/x" }, { home: "/h", platform: "linux" });
    expect(paths.map(({ path }) => path)).toEqual([
      "/var/run/docker.sock",
      "/h/.docker/run/docker.sock",
      "/h/.docker/desktop/docker.sock",
      "/h/.orbstack/run/docker.sock",
      "/h/.colima/default/docker.sock",
      "/h/.config/colima/default/docker.sock",
      "/x/docker.sock",
      "/x/podman/podman.sock",
      "/run/podman/podman.sock",
    ]);
    const [pipe] = usualSockets({}, { platform: "win32" });
    expect(pipe?.path).toBe("//./pipe/docker_engine");
  });

  test("a socket that nobody or a mute one answers on is passed over, and that is told", async () => {
    const [first, desktop, , , , , , , last] = usualSockets({}, machine);
    if (!first || !desktop || !last) throw new Error("no usual sockets");
    await using podman = await fakeEngine(last.path);
    await put(first.path, "left by an engine that died");
    await using mute = await fakeEngine(desktop.path, { mute: true });
    expect([podman.path, mute.path]).toEqual([last.path, desktop.path]);
    const probe = await probeDocker(dockerEngine({}, 5_000, machine), signal);
    expect(probe).toMatchObject({
      available: true,
      details: {
        address: last.path,
        foundBy: "Podman's socket",
        passedOver: [`${first.path}: ECONNREFUSED`, `${desktop.path}: no answer within 300 ms`],
      },
    });
  });

  test("a named one that does not answer is never replaced by another", async () => {
    await using here = await fakeEngine(join(dir, "var/run/docker.sock"));
    await putContext("down", `unix://${dir}/down.sock`);
    await useContext("down");
    const probe = await probeDocker(dockerEngine({}, 5_000, machine), signal);
    expect(probe).toMatchObject({ available: false, details: { address: `${dir}/down.sock` } });
    expect((await probeDocker(dockerEngine(here), signal)).available).toBe(true);
  });

  test("one that comes up later is found then, and one that was found is kept", async () => {
    const engine = dockerEngine({}, 5_000, machine);
    expect((await probeDocker(engine, signal)).available).toBe(false);
    const colima = join(dir, "home/.colima/default/docker.sock");
    {
      await using late = await fakeEngine(colima);
      expect((await probeDocker(engine, signal)).details).toMatchObject({ address: late.path });
    }
    await using other = await fakeEngine(join(dir, "var/run/docker.sock"));
    const kept = await probeDocker(engine, signal);
    expect(kept).toMatchObject({ available: false, details: { address: colima } });
    expect((await probeDocker(dockerEngine(other), signal)).available).toBe(true);
  });
});

const present = await dockerAnswers();
if (!present) skipped("find-engine on a real engine", "no engine", "run `npm run engines`");

describe.skipIf(!present)("the real engine", () => {
  test("is found by a context on another socket, and by a usual one behind a dead one", async () => {
    await using door = await engineDoor();
    await putContext("door", door.dockerHost);
    const dockerEnv = { DOCKER_CONTEXT: "door" };
    const named = await probeDocker(dockerEngine({ dockerEnv }, 20_000, machine), signal);
    expect(named).toMatchObject({
      available: true,
      details: { engine: "docker", foundBy: "the Docker context door of DOCKER_CONTEXT" },
    });

    const orbstack = join(dir, "home/.orbstack/run/docker.sock");
    await mkdir(dirname(orbstack), { recursive: true });
    await put(join(dir, "var/run/docker.sock"), "left by an engine that died");
    await symlink(door.dockerHost.replace("unix://", ""), orbstack);
    const slow = { ...machine, pingMs: 10_000 };
    const usual = await probeDocker(dockerEngine({}, 20_000, slow), signal);
    expect(usual).toMatchObject({ available: true, details: { foundBy: "OrbStack's socket" } });
  });
});
