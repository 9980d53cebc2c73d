import { expect, test } from "bun:test";
import { FEATURES, neededFeatures, SANDBOX_FEATURES } from "../../src/protocol/features.ts";
import { SandboxSpec } from "../../src/protocol/messages.ts";
import { call } from "../support/hub-call.ts";
import { HubFixture } from "../support/hub-fixture.ts";

const RUN = { harness: "shell", prompt: "true" };
const NEW: Readonly<Record<keyof typeof SANDBOX_FEATURES, unknown>> = {
  runtime: "haskell",
  ports: [3000],
  network: { thread: true },
};

/** A daemon that told these features at its registration, or none at all. */
async function telling(fixture: HubFixture, features: unknown) {
  const daemon = fixture.daemon();
  const token = await fixture.token();
  await daemon.register(token, features === undefined ? {} : { features });
  await daemon.beat();
  await daemon.dial();
  await fixture.reachable(token, daemon.linkId);
  const post = (sandbox: object) =>
    call(fixture.url, {
      method: "POST",
      path: "/api/runs",
      token,
      body: { ...RUN, thread: "t", sandbox },
    });
  return { daemon, post };
}

test("a field that the daemon never heard of is not sent to it, but refused", async () => {
  await using fixture = await HubFixture.start();
  const { daemon, post } = await telling(fixture, undefined);
  for (const [field, value] of Object.entries(NEW)) {
    const answer = await post({ [field]: value });
    expect(answer).toMatchObject({ status: 409, body: { code: "isolation_unavailable" } });
    expect(answer.body["missingFeatures"]).toEqual([`sandbox.${field}`]);
    expect(answer.body["fix"]).toContain("Update deco link");
  }
  expect(daemon.dispatched).toEqual([]);
  // What protocol 1 always had goes out all the same.
  expect(await post({ template: "shell", tier: 1 })).toMatchObject({ status: 202 });
  expect(daemon.dispatched).toMatchObject([{ sandbox: { template: "shell", tier: 1 } }]);
});

test("a daemon that told the feature is sent the field, and only those it told", async () => {
  await using fixture = await HubFixture.start();
  const { daemon, post } = await telling(fixture, ["sandbox.runtime", "of a later version"]);
  expect(await post({ runtime: "haskell" })).toMatchObject({ status: 202 });
  expect(daemon.dispatched).toMatchObject([{ sandbox: { runtime: "haskell" } }]);
  const answer = await post({ runtime: "haskell", ports: [80] });
  expect(answer).toMatchObject({ status: 409, body: { code: "isolation_unavailable" } });
});

test("features that are no list of names are none, and take no registration down", async () => {
  await using fixture = await HubFixture.start();
  const { post } = await telling(fixture, { "sandbox.runtime": true });
  expect(await post({ runtime: "x" })).toMatchObject({ status: 409 });
});

test("this build tells every feature, and each belongs to a field of the sandbox object", () => {
  expect(FEATURES.toSorted()).toEqual(
    Object.keys(NEW)
      .map((field) => `sandbox.${field}`)
      .toSorted(),
  );
  expect(neededFeatures(SandboxSpec.parse(NEW)).toSorted()).toEqual(FEATURES.toSorted());
  expect(neededFeatures({ template: "x", tier: 3, egress: "none" })).toEqual([]);
});
