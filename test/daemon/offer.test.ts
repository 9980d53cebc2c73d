import { expect, test } from "bun:test";
import { loadConfig } from "../../src/daemon/config.ts";
import { silentLog } from "../../src/daemon/log.ts";
import { createOffer } from "../../src/daemon/offer.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import type { ProviderName } from "../../src/protocol/messages.ts";
import type { SandboxProvider } from "../../src/sandbox/provider.ts";
import { type TestHome, testHome } from "../support/control-home.ts";
import { type PlayedProvider, playedProvider } from "../support/control-provider.ts";

const never = new AbortController().signal;
const GONE = { available: false, confined: true, reason: "no engine", fix: "Start Docker." };

async function offerOf(home: TestHome, flags: Record<string, unknown> = {}) {
  const docker = playedProvider("docker");
  const process = playedProvider("process");
  const providers = new Map<ProviderName, SandboxProvider>([
    ["docker", docker],
    ["process", process],
  ]);
  const config = loadConfig({ env: { HOME: home.dir }, paths: home.paths, flags });
  let changes = 0;
  const onChange = () => {
    changes += 1;
  };
  const offer = await createOffer({ config, providers, log: silentLog, onChange });
  return { offer, docker, process, changes: () => changes };
}

test("docker that is lost later never makes process the default: refused, with the fix", async () => {
  await using home = await testHome();
  const { offer, docker } = await offerOf(home);
  await offer.refresh(never);
  expect(offer.defaultProvider()).toBe("docker");
  await lose(docker, offer);
  expect(offer.defaultProvider()).toBe("docker");
  expect(offer.checkProvider("docker")).toMatchObject({
    code: "isolation_unavailable",
    fix: "Start Docker.",
  });
  expect(offer.checkProvider("process")).toBeUndefined();
});

test("a restart while docker is down does not make process the default, either", async () => {
  await using home = await testHome();
  const first = await offerOf(home);
  await first.offer.refresh(never);
  const second = await offerOf(home);
  second.docker.probed = GONE;
  await second.offer.refresh(never);
  expect(second.offer.defaultProvider()).toBe("docker");
  expect(second.offer.mayHold("docker")).toBe(true);
  expect(second.offer.checkProvider("docker")).toBeInstanceOf(DecoError);
});

test("a machine that never had docker uses process, and knows that docker holds nothing", async () => {
  await using home = await testHome();
  const { offer, docker } = await offerOf(home);
  docker.probed = GONE;
  await offer.refresh(never);
  expect(offer.defaultProvider()).toBe("process");
  expect(offer.mayHold("docker")).toBe(false);
});

test("when nothing works the default is an error with a fix, until something does", async () => {
  await using home = await testHome();
  const { offer, docker, process } = await offerOf(home);
  expect(offer.defaultProvider()).toMatchObject({ code: "isolation_unavailable" });
  docker.probed = GONE;
  process.probed = { available: false, confined: false, reason: "no user namespaces" };
  await offer.refresh(never);
  expect(offer.defaultProvider()).toMatchObject({
    code: "isolation_unavailable",
    message: expect.stringContaining("no user namespaces"),
  });
  docker.probed = { available: true, confined: true };
  await offer.refresh(never);
  expect(offer.defaultProvider()).toBe("docker");
});

test("an unconfined process is refused unless the owner allows it", async () => {
  await using home = await testHome();
  const strict = await offerOf(home);
  strict.process.probed = { available: true, confined: false, reason: "no namespaces" };
  await strict.offer.refresh(never);
  expect(strict.offer.checkProvider("process")).toMatchObject({ code: "unconfined_refused" });
  const lax = await offerOf(home, { allowUnconfined: true });
  lax.process.probed = { available: true, confined: false };
  await lax.offer.refresh(never);
  expect(lax.offer.checkProvider("process")).toBeUndefined();
});

test("a change of what is offered is told, so that the next heartbeat carries it", async () => {
  await using home = await testHome();
  const { offer, docker, changes } = await offerOf(home);
  await offer.refresh(never);
  const before = changes();
  await offer.refresh(never);
  expect(changes()).toBe(before);
  await lose(docker, offer);
  expect(changes()).toBe(before + 1);
  const shown = offer.capabilities().find(({ name }) => name === "docker");
  expect(shown).toMatchObject({ available: false, reason: "no engine", fix: "Start Docker." });
});

async function lose(docker: PlayedProvider, offer: { refresh(s: AbortSignal): Promise<void> }) {
  docker.probed = GONE;
  await offer.refresh(never);
  await offer.refresh(never);
}
