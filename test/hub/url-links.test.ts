import { expect, test } from "bun:test";
import { listen } from "../../src/net/listen.ts";
import { call } from "../support/hub-call.ts";
import type { FakeDaemon } from "../support/hub-daemon.ts";
import { HubFixture, until } from "../support/hub-fixture.ts";

test("a hub takes no localhost links unless it was told to", async () => {
  await using fixture = await HubFixture.start();
  const tunnelUrl = "http://localhost:5174";
  await expect(
    fixture.daemon().register(await fixture.token(), { tunnelUrl }),
  ).rejects.toMatchObject({
    code: "localhost_links_disabled",
  });
});

test("a tunnelUrl is loopback and a port, nothing else", async () => {
  await using fixture = await HubFixture.start({ allowLocalhostLinks: true });
  const token = await fixture.token();
  const wrong = [
    "http://localhost",
    "https://localhost:1",
    "http://10.0.0.1:80",
    "http://localhost.evil.example:80",
    "http://localhost:80@evil.example:80",
    "http://127.0.0.1:80/path",
    "http://127.0.0.1:80?x",
    "http://127.1:80",
    "http://[::2]:80",
    "http://localhost:0",
    "http://localhost:65536",
  ];
  for (const tunnelUrl of wrong) {
    await expect(fixture.daemon().register(token, { tunnelUrl })).rejects.toMatchObject({
      code: "invalid_request",
    });
  }
  for (const tunnelUrl of [
    "http://localhost:5174",
    "http://127.0.0.1:5174/",
    "http://[::1]:5174",
  ]) {
    expect((await fixture.daemon().register(token, { tunnelUrl })).epoch).toBeGreaterThan(0);
  }
});

test("a link with an address is online only after a rightly signed answer, and runs go there", async () => {
  await using fixture = await HubFixture.start({ allowLocalhostLinks: true });
  const token = await fixture.token();
  const daemon = fixture.daemon();
  await using served = await listen({ fetch: daemon.fetch }, { port: 0 });
  daemon.signAnswers = false;
  await daemon.register(token, { tunnelUrl: served.url });
  await daemon.beat();
  expect(await status(fixture, token)).toBe("offline");
  daemon.signAnswers = true;
  await believed(fixture, token, daemon);
  expect(await status(fixture, token)).toBe("online");

  const runId = await fixture.dispatch(token);
  daemon.emit(runId, "run.completed", { output: "there" });
  expect(await fixture.events(token, runId)).toHaveLength(1);
});

test("another program at that address is not believed", async () => {
  await using fixture = await HubFixture.start({ allowLocalhostLinks: true });
  const token = await fixture.token();
  const daemon = fixture.daemon();
  let asked = 0;
  const stranger = {
    fetch: () => {
      asked += 1;
      return Response.json({ state: "online" });
    },
  };
  await using served = await listen(stranger, { port: 0 });
  await daemon.register(token, { tunnelUrl: served.url });
  await until(async () => {
    await daemon.beat();
    return asked > 1;
  });
  expect(await status(fixture, token)).toBe("offline");
  const body = { harness: "shell", prompt: "true" };
  const answer = await call(fixture.url, { method: "POST", path: "/api/runs", token, body });
  expect(answer).toMatchObject({ status: 409, body: { code: "link_offline" } });
});

async function status(fixture: HubFixture, token: string) {
  return (await call(fixture.url, { path: "/api/links/me", token })).body["status"];
}

async function believed(fixture: HubFixture, token: string, daemon: FakeDaemon): Promise<void> {
  await until(async () => {
    await daemon.beat();
    return (await status(fixture, token)) === "online";
  });
}
