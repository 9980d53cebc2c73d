import { expect, test } from "bun:test";
import { DecoError } from "../../src/protocol/errors.ts";
import { CLOSE } from "../../src/protocol/mux.ts";
import { scriptedHub } from "../support/control-hub.ts";
import { type LinkUnderTest, linkUnderTest } from "../support/control-link.ts";

const error = (code: DecoError["code"]) => new DecoError(code, "the script says so");

test("a link registers, dials its tunnel, tells its capabilities, and only then is online", async () => {
  await using hub = await scriptedHub();
  await using link = await linkUnderTest(hub);
  await link.reached("online");
  expect(link.states.slice(0, 4)).toEqual(["connecting", "dialling", "advertising", "online"]);
  expect(hub.tunnels).toHaveLength(1);
  expect(hub.heartbeats[0]).toMatchObject({ epoch: 1, state: "online" });
  expect(hub.heartbeats[0]?.capabilities).toEqual([{ name: "shell", available: true }]);
});

test("capabilities travel with the heartbeats only when they have changed", async () => {
  await using hub = await scriptedHub();
  await using link = await linkUnderTest(hub);
  await hub.until(() => hub.heartbeats.length >= 3);
  expect(hub.heartbeats.filter((beat) => beat.capabilities !== undefined)).toHaveLength(1);
  link.capabilities.push({ name: "docker", available: true });
  await hub.until(() => hub.heartbeats.at(-1)?.capabilities?.length === 2);
});

test("a clean stop ends the epoch at the hub", async () => {
  await using hub = await scriptedHub();
  const link = await linkUnderTest(hub);
  await link.reached("online");
  await link[Symbol.asyncDispose]();
  expect(await link.done).toBeUndefined();
  expect(hub.left).toEqual([1]);
  expect(link.states.at(-1)).toBe("stopped");
});

test.each(["unknown_link", "bad_secret", "secret_expired"] as const)(
  "a heartbeat answered %s registers again at once and goes on (LESSONS 1)",
  async (code) => {
    await using hub = await scriptedHub();
    hub.script.heartbeat = ({ epoch }) => {
      if (epoch === 1) throw error(code);
    };
    await using link = await linkUnderTest(hub);
    await link.reached("online");
    expect(hub.registrations).toHaveLength(2);
    expect(link.states).not.toContain("waiting");
    expect(link.session()?.epoch).toBe(2);
  },
);

test("a tunnel refused with unknown_link registers again at once", async () => {
  await using hub = await scriptedHub();
  hub.script.tunnel = ({ epoch }) => {
    if (epoch === 1) throw error("unknown_link");
  };
  await using link = await linkUnderTest(hub);
  await link.reached("online");
  expect(hub.registrations).toHaveLength(2);
});

test("a hub that goes on refusing is asked with growing pauses, not in a loop", async () => {
  await using hub = await scriptedHub();
  hub.script.heartbeat = ({ epoch }) => {
    if (epoch < 4) throw error("unknown_link");
  };
  await using link = await linkUnderTest(hub, { random: () => 0.01 });
  await link.reached("online");
  expect(hub.registrations).toHaveLength(4);
  expect(link.states.filter((state) => state === "waiting")).toHaveLength(2);
});

test.each(["heartbeat", "tunnel"] as const)(
  "superseded on the %s stops with 9 and never registers again (LESSONS 4)",
  async (where) => {
    await using hub = await scriptedHub();
    hub.script[where] = () => {
      throw error("superseded");
    };
    await using link = await linkUnderTest(hub, { service: true });
    expect(await link.done).toMatchObject({ code: "superseded", info: { exit: 9 } });
    expect(hub.registrations).toHaveLength(1);
    expect(hub.left).toEqual([]);
  },
);

test("a tunnel that the hub closes as superseded stops the daemon, too", async () => {
  await using hub = await scriptedHub();
  await using link = await linkUnderTest(hub);
  await link.reached("online");
  hub.tunnels[0]?.close(CLOSE.superseded, "superseded");
  expect(await link.done).toMatchObject({ code: "superseded" });
});

test.each([
  ["a 401", refuseAsRevoked],
  ["revoked: true", () => ({ revoked: true })],
])("revoked, said by %s, stops with 4", async (_how, say) => {
  await using hub = await scriptedHub();
  hub.script.heartbeat = say;
  await using link = await linkUnderTest(hub);
  expect(await link.done).toMatchObject({ code: "revoked", info: { exit: 4 } });
});

test.each(["unauthorized", "bad_proof", "upgrade_required", "identity_changed"] as const)(
  "in the foreground a registration refused with %s ends the daemon with 4 and the next step",
  async (code) => {
    await using hub = await scriptedHub();
    hub.script.register = () => {
      throw error(code);
    };
    await using link = await linkUnderTest(hub);
    const end = await link.done;
    expect(end?.info.exit).toBe(4);
    expect(end?.fix).not.toBe("");
    // A refused token leaves the proof alone to be tried, once.
    expect(hub.registrations).toHaveLength(code === "unauthorized" ? 2 : 1);
  },
);

test("a service that is refused stays, and registers when the credentials change", async () => {
  await using hub = await scriptedHub();
  hub.script.register = ({ nth }) => {
    if (nth === 1) throw error("identity_changed");
  };
  await using link = await linkUnderTest(hub, { service: true });
  await link.reached("unauthorised");
  expect(hub.registrations).toHaveLength(1);
  link.changeCredentials();
  await link.reached("online");
  expect(hub.registrations).toHaveLength(2);
});

test("a service that is refused tries again after its time", async () => {
  await using hub = await scriptedHub();
  hub.script.register = ({ nth }) => {
    if (nth === 1) throw error("upgrade_required");
  };
  await using link = await linkUnderTest(hub, { service: true, refusedRetryMs: 20 });
  await link.reached("online");
});

test("a hub that is not ready, or not there, is tried again for ever (LESSONS 2)", async () => {
  await using hub = await scriptedHub();
  hub.script.register = ({ nth }) => {
    if (nth < 5) throw error(nth % 2 === 0 ? "unavailable" : "internal");
  };
  await using link = await linkUnderTest(hub, { random: () => 0.01 });
  await link.reached("online");
  expect(hub.registrations).toHaveLength(5);
});

test("a dropped tunnel is dialled again with the same epoch, and nothing else ends (LESSONS 2)", async () => {
  await using hub = await scriptedHub();
  await using link = await linkUnderTest(hub);
  for (let round = 1; round <= 5; round += 1) {
    await hub.until(() => hub.tunnels.length === round);
    await link.reachedTimes("online", round);
    hub.tunnels[round - 1]?.close(1011, "cut");
  }
  await link.reachedTimes("online", 6);
  expect(hub.registrations).toHaveLength(1);
});

test("a tunnel that can't be dialled is tried again while heartbeats go on", async () => {
  await using hub = await scriptedHub();
  hub.script.tunnel = ({ nth }) => {
    if (nth < 4) throw error("unavailable");
  };
  await using link = await linkUnderTest(hub);
  await link.reached("online");
  expect(hub.registrations).toHaveLength(1);
});

test("a hub that hangs up on heartbeats ends no session", async () => {
  await using hub = await scriptedHub();
  hub.script.heartbeat = ({ nth }) => {
    if (nth > 1 && nth < 5) throw error("unavailable");
  };
  await using link = await linkUnderTest(hub);
  await hub.until(() => hub.heartbeats.length > 5);
  expect(hub.registrations).toHaveLength(1);
  expect(link.missed).toBe(3);
});

test("after a wake the tunnel is dialled and a heartbeat sent at once (LESSONS 1)", async () => {
  await using hub = await scriptedHub({ heartbeatIntervalMs: 60_000 });
  await using link = await linkUnderTest(hub);
  await link.reached("online");
  const before = hub.heartbeats.length;
  link.sleep(3_600_000);
  await hub.until(() => hub.tunnels.length === 2 && hub.heartbeats.length > before);
  expect(link.now()).toBeGreaterThan(Date.now() + 3_000_000);
});

test("a hub's clock that jumps makes the daemon register again; a small step is followed", async () => {
  await using hub = await scriptedHub();
  hub.script.heartbeat = ({ nth }) => at(nth < 3 ? 3000 : 3_600_000);
  hub.script.register = ({ nth }) => (nth === 1 ? at(0) : at(3_600_000));
  await using link = await linkUnderTest(hub);
  await link.reachedTimes("online", 2);
  expect(hub.registrations).toHaveLength(2);
  expect(Math.abs(link.clock.now() - Date.now() - 3_600_000)).toBeLessThan(3000);
});

test("runs that the hub wants cancelled are cancelled", async () => {
  await using hub = await scriptedHub();
  hub.script.heartbeat = ({ nth }) => (nth === 1 ? { cancel: ["run_1", "run_2"] } : {});
  await using link = await linkUnderTest(hub);
  await hub.until(() => hub.heartbeats.length >= 2);
  expect(link.cancelled).toEqual(["run_1", "run_2"]);
});

test("without a tunnel a link is online after its first heartbeat, and says where it listens", async () => {
  await using hub = await scriptedHub();
  await using link = await linkUnderTest(hub, { tunnelUrl: "http://127.0.0.1:5174" });
  await link.reached("online");
  expect(hub.tunnels).toHaveLength(0);
  expect(hub.registrations[0]?.body.tunnelUrl).toBe("http://127.0.0.1:5174");
});

test("the control plane takes nobody's signatures between two sessions", async () => {
  await using hub = await scriptedHub();
  hub.script.heartbeat = ({ epoch }) => {
    if (epoch === 1) throw error("unknown_link");
  };
  await using link: LinkUnderTest = await linkUnderTest(hub);
  await link.reached("online");
  expect(link.sessions).toEqual([1, undefined, 2]);
});

function at(ms: number) {
  return { now: new Date(Date.now() + ms).toISOString() };
}

function refuseAsRevoked(): never {
  throw error("revoked");
}
