import { describe, expect, test } from "bun:test";
import { hostname } from "node:os";
import { enrol } from "../../src/daemon/enrol.ts";
import { hubApi } from "../../src/daemon/hub-api.ts";
import { openIdentity } from "../../src/daemon/identity.ts";
import { listen } from "../../src/net/listen.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import { FEATURES } from "../../src/protocol/features.ts";
import { HubClock } from "../../src/protocol/hub-clock.ts";
import { checkProof } from "../../src/protocol/proof.ts";
import { testHome } from "../support/control-home.ts";
import { scriptedHub } from "../support/control-hub.ts";

const profile = {
  name: "n",
  hostname: hostname(),
  platform: process.platform,
  arch: process.arch,
  cliVersion: "0.0.0",
};

async function enrolment(hubUrl: string, more: { userToken?: string; clock?: HubClock } = {}) {
  await using home = await testHome();
  const identity = await openIdentity(home.paths.machineFile);
  const clock = more.clock ?? new HubClock({ now: Date.now });
  const registered = await enrol({
    hub: hubApi({ hubUrl }),
    identity,
    profile,
    capabilities: [],
    clock,
    signal: AbortSignal.timeout(5000),
    ...(more.userToken === undefined ? {} : { userToken: more.userToken }),
  });
  return { registered, identity, clock };
}

test("the proof is for the origin that was dialled, by this laptop's key", async () => {
  await using hub = await scriptedHub();
  const { identity } = await enrolment(hub.url, { userToken: "u" });
  const [call] = hub.registrations;
  expect(call?.token).toBe("u");
  expect(call?.body.features).toEqual([...FEATURES]);
  await checkProof({
    proof: call?.body.proof ?? "",
    publicKey: identity.publicJwk,
    audience: [hub.url],
    machineId: identity.machineId,
    now: Date.now(),
    seenJti: () => false,
  });
});

test("a wrong laptop clock is corrected by the hub's time, once", async () => {
  await using hub = await scriptedHub();
  const hubNow = new Date(Date.now() + 7_200_000).toISOString();
  hub.script.register = ({ nth }) => {
    if (nth > 1) return { now: hubNow };
    throw new DecoError("bad_proof", "too old", { extensions: { now: hubNow } });
  };
  const { clock, identity } = await enrolment(hub.url);
  expect(hub.registrations).toHaveLength(2);
  expect(Math.abs(clock.now() - Date.parse(hubNow))).toBeLessThan(2000);
  await checkProof({
    proof: hub.registrations[1]?.body.proof ?? "",
    publicKey: identity.publicJwk,
    audience: [hub.url],
    machineId: identity.machineId,
    now: Date.parse(hubNow),
    seenJti: () => false,
  });
});

test("a proof that stays bad is not tried for ever", async () => {
  await using hub = await scriptedHub();
  hub.script.register = () => {
    const now = new Date().toISOString();
    throw new DecoError("bad_proof", "no", { extensions: { now } });
  };
  await expect(enrolment(hub.url)).rejects.toMatchObject({ code: "bad_proof" });
  expect(hub.registrations).toHaveLength(2);
});

test("an expired user token does not lock out a laptop that the hub knows (LESSONS 3)", async () => {
  await using hub = await scriptedHub();
  hub.script.register = ({ token }) => {
    if (token !== undefined) throw new DecoError("unauthorized", "expired");
  };
  expect((await enrolment(hub.url, { userToken: "old" })).registered.epoch).toBe(1);
  expect(hub.registrations.map(({ token }) => token)).toEqual(["old", undefined]);
});

test("a laptop that the hub does not know is told to log in", async () => {
  await using hub = await scriptedHub();
  hub.script.register = () => {
    throw new DecoError("unauthorized", "who are you");
  };
  await expect(enrolment(hub.url)).rejects.toMatchObject({
    code: "not_enrolled",
    info: { exit: 4 },
    fix: expect.stringContaining("deco login"),
  });
});

test("a hub of another protocol is refused with what to do", async () => {
  await using hub = await scriptedHub();
  hub.script.register = () => ({
    hub: { version: "9", protocol: { min: 2, max: 3 }, features: [] },
  });
  await expect(enrolment(hub.url)).rejects.toMatchObject({ code: "upgrade_required" });
});

describe("answers that are none of ours", () => {
  test.each([
    ["a web page with 200", 200, "hub_unreachable"],
    ["a redirect", 302, "hub_unreachable"],
    ["a gateway's 502", 502, "hub_unreachable"],
    ["a 404 of another server", 404, "hub_unreachable"],
    ["a bare 401", 401, "not_enrolled"],
    ["a bare 426", 426, "upgrade_required"],
  ] as const)("%s is a typed error", async (_what, status, code) => {
    const headers = { "content-type": "text/html", location: "/login" };
    const fetch = () => new Response("<html>", { status, headers });
    await using server = await listen({ fetch }, { port: 0 });
    await expect(enrolment(server.url)).rejects.toMatchObject({ code });
  });
});

test("a hub that is not there is hub_unreachable", async () => {
  await expect(enrolment("http://127.0.0.1:1")).rejects.toMatchObject({ code: "hub_unreachable" });
});

test.each([
  ["http off loopback", "http://hub.example", {}, false],
  ["http off loopback, with --insecure", "http://hub.example", { insecure: true }, true],
  ["https", "https://hub.example:8443/x", {}, true],
  ["http on loopback", "http://[::1]:4000", {}, true],
  ["an address of another kind", "file:///etc/passwd", {}, false],
  ["no address", "hub", {}, false],
])("%s is taken or refused before anything is sent", (_what, hubUrl, more, taken) => {
  const make = () => hubApi({ hubUrl, ...more });
  if (taken) expect(make().origin).toBe(new URL(hubUrl).origin);
  else expect(make).toThrow(expect.objectContaining({ code: "usage" }));
});
