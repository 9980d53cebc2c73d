import { expect, test } from "bun:test";
import { type StatusFacts, statusSnapshot } from "../../src/daemon/status.ts";
import { DecoError } from "../../src/protocol/errors.ts";

const facts: StatusFacts = {
  version: "1.0.0",
  name: "laptop",
  machineId: "m",
  hub: "https://hub.example",
  providerReason: "docker answers",
  provider: "docker",
  capabilities: [],
  socket: "/run/s",
  link: { type: "online", since: 0, linkId: "link_1", epoch: 7 },
  draining: false,
  startedAtMs: 0,
  hasTunnel: true,
  runs: [],
  maxRuns: 4,
};

test("an online link shows its id, epoch and tunnel", () => {
  expect(statusSnapshot(facts)).toMatchObject({
    state: "online",
    linkId: "link_1",
    epoch: 7,
    tunnel: "up",
    since: "1970-01-01T00:00:00.000Z",
    warnings: [],
  });
});

test("a waiting link shows why, what to do, and when it tries again", () => {
  const error = new DecoError("hub_unreachable", "no route");
  const link = { type: "waiting", since: 0, retryAt: 5000, error } as const;
  expect(statusSnapshot({ ...facts, link })).toMatchObject({
    state: "waiting",
    tunnel: "down",
    retryAt: "1970-01-01T00:00:05.000Z",
    error: { code: "hub_unreachable", detail: "no route", fix: error.fix },
  });
});

test("draining shows over the link's state, but not over its end", () => {
  expect(statusSnapshot({ ...facts, draining: true }).state).toBe("draining");
  const link = { type: "stopped", since: 0 } as const;
  expect(statusSnapshot({ ...facts, draining: true, link }).state).toBe("stopped");
});

test("without a tunnel it says so, and where it listens", () => {
  const snapshot = statusSnapshot({ ...facts, hasTunnel: false, control: "http://127.0.0.1:5174" });
  expect(snapshot).toMatchObject({ tunnel: "off", control: "http://127.0.0.1:5174" });
});

test("runs count while they live, and show until the hub has all of their events", () => {
  const run = { attempt: 1, firstSeq: 1, lastSeq: 3 };
  const runs = [
    { ...run, runId: "live", status: "running" },
    { ...run, runId: "unacked", status: "completed" },
    { ...run, runId: "acked", status: "completed", firstSeq: 4 },
  ] as const;
  const snapshot = statusSnapshot({ ...facts, runs });
  expect(snapshot.load).toEqual({ runs: 1, maxRuns: 4 });
  expect(snapshot.runs.map(({ runId }) => runId)).toEqual(["live", "unacked"]);
});

test("no provider, and a hub that misses heartbeats, are warnings", () => {
  const missedHeartbeat = new DecoError("hub_unreachable", "timed out");
  const snapshot = statusSnapshot({ ...facts, provider: undefined, missedHeartbeat });
  expect(snapshot.warnings.map(({ code }) => code)).toEqual(["no_provider", "heartbeat_missed"]);
  expect(snapshot).not.toHaveProperty("provider");
});

test("what is made ahead shows as it is told, and not at all where nothing is", () => {
  const warm = { ready: 1, memoryMib: 12, leased: 3, retryAt: "2026-11-21T00:00:00.000Z" };
  expect(statusSnapshot({ ...facts, warm }).warm).toEqual(warm);
  expect(statusSnapshot(facts)).not.toHaveProperty("warm");
});
