import { expect, test } from "bun:test";
import { call } from "../support/hub-call.ts";
import { HubFixture, until } from "../support/hub-fixture.ts";

test("the first run pins a thread, and a later body that disagrees is refused", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked("ada", (one) => {
    one.capabilities = [{ name: "docker" }, { name: "process" }, { name: "claude-code" }];
  });
  const first = { thread: "t", branch: "main", sandbox: { provider: "docker" } };
  const runId = await fixture.dispatch(token, first);
  const post = (over: object) =>
    call(fixture.url, {
      method: "POST",
      path: "/api/runs",
      token,
      body: { harness: "shell", prompt: "x", thread: "t", ...over },
    });
  for (const over of [
    { harness: "claude-code" },
    { branch: "other" },
    { sandbox: { provider: "process" } },
  ]) {
    expect(await post(over)).toMatchObject({ status: 409, body: { code: "thread_pinned" } });
  }
  expect((await post({})).status).toBe(202);
  expect(daemon.dispatched[1]).toMatchObject({ branch: "main", sandbox: { provider: "docker" } });
  expect((await call(fixture.url, { path: "/api/threads/t", token })).body).toMatchObject({
    threadId: "t",
    pins: { sandboxProviderKind: "docker", harnessId: "shell", branch: "main" },
    sandboxMap: {},
    firstRunId: runId,
  });
});

test("the provider that the daemon chose becomes the pin, and its sandbox stands in the map", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token, { thread: "t", branch: "dev" });
  const thread = async () => (await call(fixture.url, { path: "/api/threads/t", token })).body;
  expect((await thread())["pins"]).toEqual({
    sandboxProviderKind: null,
    harnessId: "shell",
    branch: "dev",
  });
  daemon.emit(runId, "sandbox.ready", { handle: "s-1", provider: "docker", image: "i" });
  await until(async () => (await fixture.run(token, runId))["lastSeq"] === 1);
  expect(await thread()).toMatchObject({
    pins: { sandboxProviderKind: "docker" },
    sandboxMap: { ada: { dev: { docker: { handle: "s-1", linkId: daemon.linkId } } } },
  });
});

test("a thread's later runs go to the link that has its sandbox", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const home = await fixture.linked();
  await fixture.linked();
  const runId = await fixture.dispatch(token, { thread: "t", link: home.linkId });
  home.emit(runId, "sandbox.ready", { handle: "s-1", provider: "docker" });
  await until(async () => (await fixture.run(token, runId))["lastSeq"] === 1);
  await fixture.dispatch(token, { thread: "t" });
  await fixture.dispatch(token, { thread: "t" });
  expect(home.dispatched).toHaveLength(3);
});

test("two users' threads of one name are two threads", async () => {
  await using fixture = await HubFixture.start();
  await fixture.linked("ada");
  await fixture.linked("bob");
  await fixture.dispatch(await fixture.token("ada"), { thread: "t", branch: "a" });
  await fixture.dispatch(await fixture.token("bob"), { thread: "t", branch: "b" });
  const { body } = await call(fixture.url, {
    path: "/api/threads/t",
    token: await fixture.token("bob"),
  });
  expect(body["pins"]).toMatchObject({ branch: "b" });
});

test("the catalog says which links offer what, and why not", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const one = await fixture.linked("ada", (daemon) => {
    daemon.capabilities = [
      { name: "docker", version: "29" },
      { name: "virtualbox", available: false, reason: "absent" },
    ];
  });
  await fixture.linked("bob");
  const { body } = await call(fixture.url, { path: "/api/capabilities", token });
  expect(body["capabilities"]).toMatchObject([
    {
      name: "docker",
      available: true,
      links: [{ linkId: one.linkId, status: "online", version: "29" }],
    },
    { name: "virtualbox", available: false, links: [{ available: false, reason: "absent" }] },
  ]);
  const only = await call(fixture.url, { path: "/api/capabilities?type=docker", token });
  expect(only.body["capabilities"]).toHaveLength(1);
});
