import { expect, test } from "bun:test";
import { httpRequest } from "../../src/net/http-request.ts";
import { call } from "../support/hub-call.ts";
import { HubFixture, until } from "../support/hub-fixture.ts";

test("Last-Event-ID resumes behind that number, and wins over ?after=", async () => {
  await using fixture = await HubFixture.start();
  const { token, runId } = await finished(fixture, 5);
  const resumed = await fixture.events(token, runId, 3);
  expect(resumed.map(({ seq }) => seq)).toEqual([4, 5]);
  const both = await call(fixture.url, {
    path: `/api/runs/${runId}/events?after=1`,
    token,
    headers: { "last-event-id": "4" },
  });
  expect(both.text).toContain("id: 5\n");
  expect(both.text).not.toContain("id: 4\n");
});

test("resuming at the end of a finished run answers and closes", async () => {
  await using fixture = await HubFixture.start();
  const { token, runId } = await finished(fixture, 2);
  expect(await fixture.events(token, runId, 2)).toEqual([]);
});

test("resuming beyond the end is seq_ahead, with where the end is", async () => {
  await using fixture = await HubFixture.start();
  const { token, runId } = await finished(fixture, 2);
  const answer = await call(fixture.url, { path: `/api/runs/${runId}/events?after=3`, token });
  expect(answer).toMatchObject({ status: 409, body: { code: "seq_ahead", lastSeq: 2 } });
  const wrong = await call(fixture.url, { path: `/api/runs/${runId}/events?after=-1`, token });
  expect(wrong).toMatchObject({ status: 400, body: { code: "invalid_request" } });
});

test("the head goes out at once, and a ping where nothing happens", async () => {
  await using fixture = await HubFixture.start({ pingMs: 20 });
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  const stopped = new AbortController();
  const answer = await httpRequest({
    url: fixture.url,
    path: `/api/runs/${runId}/events`,
    headers: { authorization: `Bearer ${token}` },
    signal: stopped.signal,
  });
  expect(answer.headers.get("content-type")).toStartWith("text/event-stream");
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of answer.body) {
    text += decoder.decode(chunk, { stream: true });
    if (text.includes(": ping") && daemon.run(runId).lines.length === 0) {
      daemon.emit(runId, "run.completed", { output: "" });
    }
  }
  expect(text).toContain("event: run.completed\n");
});

test("many readers of one run all see all of it, as it comes", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  const readers = Array.from({ length: 20 }, () => fixture.events(token, runId));
  for (let i = 0; i < 10; i += 1) {
    daemon.emit(runId, "assistant.message.delta", { content: `${i}` });
    await until(async () => (await fixture.run(token, runId))["lastSeq"] === i + 1);
  }
  daemon.emit(runId, "run.completed", { output: "" });
  for (const events of await Promise.all(readers)) {
    expect(events.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  }
});

test("a hub that goes breaks its event streams off instead of ending the run", async () => {
  await using fixture = await HubFixture.start();
  const token = await fixture.token();
  await fixture.linked();
  const runId = await fixture.dispatch(token);
  const reading = fixture.events(token, runId).catch(() => []);
  await fixture.restart();
  expect(await reading).toEqual([]);
  expect(await fixture.run(token, runId)).toMatchObject({ status: "queued" });
});

async function finished(fixture: HubFixture, count: number) {
  const token = await fixture.token();
  const daemon = await fixture.linked();
  const runId = await fixture.dispatch(token);
  for (let i = 1; i < count; i += 1)
    daemon.emit(runId, "assistant.message.delta", { content: `${i}` });
  daemon.emit(runId, "run.completed", { output: "" });
  await fixture.events(token, runId);
  return { token, runId };
}
