import { expect, test } from "bun:test";
import {
  chooseProvider,
  readProviderMemory,
  writeProviderMemory,
} from "../../src/daemon/choose-provider.ts";
import type { ProviderName } from "../../src/protocol/messages.ts";
import type { ProviderProbe } from "../../src/sandbox/provider.ts";
import { testHome } from "../support/control-home.ts";

const docker = { available: true, version: "20.10", confined: true };
const noDocker = { available: false, confined: true, reason: "no engine" };
const confined = { available: true, confined: true };
const unconfined = { available: true, confined: false, reason: "user namespaces are off" };

function choose(
  probes: Partial<Record<ProviderName, ProviderProbe>>,
  more: { remembered?: ProviderName; preference?: ProviderName; allowUnconfined?: boolean } = {},
) {
  const entries = Object.entries(probes).map(([name, probe]) => [name, probe]);
  const map = new Map<ProviderName, ProviderProbe>();
  for (const name of ["docker", "process"] as const) {
    const probe = probes[name];
    if (probe) map.set(name, probe);
  }
  expect(map.size).toBe(entries.length);
  return chooseProvider({ probes: map, allowUnconfined: false, ...more });
}

test("docker is chosen when it really works", () => {
  expect(choose({ docker, process: confined })).toMatchObject({ provider: "docker" });
});

test("without docker a process that is confined is chosen, and the reason is said", () => {
  const choice = choose({ docker: noDocker, process: confined });
  expect(choice.provider).toBe("process");
  expect(choice.reason).toContain("no engine");
});

test("a process that can't be confined is chosen only when its owner allows it, and says so", () => {
  const probes = { docker: noDocker, process: unconfined };
  const refused = choose(probes);
  expect(refused.provider).toBeUndefined();
  expect(refused.fix).toContain("--allow-unconfined");
  const allowed = choose(probes, { allowUnconfined: true });
  expect(allowed).toMatchObject({ provider: "process" });
  expect(allowed.reason).toContain("UNCONFINED");
});

test("where neither works, both say why and what to do: an engine that is not permitted is not installed again", () => {
  const denied = { ...noDocker, reason: "EACCES", fix: "Join the docker group." };
  const { reason, fix } = choose({
    docker: denied,
    process: { ...unconfined, fix: "Run it as root." },
  });
  expect(reason).toContain("EACCES");
  expect(reason).toContain("user namespaces are off");
  expect(fix).toContain("Join the docker group.");
  expect(fix).toContain("Run it as root.");
  const remembered = choose({ docker: denied, process: confined }, { remembered: "docker" });
  expect(remembered.fix).toContain("Join the docker group.");
});

test("a home that has used docker never falls back to process by itself (LESSONS 25)", () => {
  const choice = choose({ docker: noDocker, process: confined }, { remembered: "docker" });
  expect(choice.provider).toBe("docker");
  expect(choice.fix).toContain("Start Docker");
});

test("a home that has used process goes to docker when that works", () => {
  const choice = choose({ docker, process: confined }, { remembered: "process" });
  expect(choice.provider).toBe("docker");
});

test("what the owner names is taken, whatever works", () => {
  const choice = choose({ docker, process: confined }, { preference: "process" });
  expect(choice.provider).toBe("process");
});

test("the choice is remembered in the home; a damaged file is forgotten", async () => {
  await using home = await testHome();
  const { providerFile } = home.paths;
  expect(await readProviderMemory(providerFile)).toEqual({ seen: [] });
  await writeProviderMemory(providerFile, { default: "docker", seen: ["docker", "process"] });
  expect(await readProviderMemory(providerFile)).toMatchObject({ default: "docker" });
  await writeProviderMemory(providerFile, JSON.parse('{"default":"x"}'));
  expect(await readProviderMemory(providerFile)).toEqual({ seen: [] });
});
