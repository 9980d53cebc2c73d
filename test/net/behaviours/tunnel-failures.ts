import assert from "node:assert/strict";
import { dialTunnel } from "../../../src/net/tunnel-dial.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import type { Behaviours } from "./run.ts";
import { type Counter, chunks, countBytes, MIB, rejects, until } from "./support.ts";
import { app, GET } from "./tunnel-app.ts";
import { never, testHub, tunnelPair } from "./tunnel-pair.ts";

export const tunnelFailures: Behaviours = {
  "an abort at the hub aborts the handler's request, before and after the head": async () => {
    const state: { aborted?: unknown } = {};
    await using pair = await tunnelPair(app(state));
    const first = new AbortController();
    const work = pair.hub.request({ ...GET, path: "/hang", signal: first.signal });
    await until(() => pair.daemon.streams === 1, "the request is there");
    first.abort(new DecoError("timeout", "enough"));
    assert.equal((await rejects(work)).code, "timeout");
    await until(() => state.aborted !== undefined, "the handler's signal aborts");
    delete state.aborted;
    const second = new AbortController();
    const answer = await pair.hub.request({
      ...GET,
      path: `/blob?n=${512 * MIB}`,
      signal: second.signal,
    });
    second.abort(new DecoError("timeout", "enough"));
    assert.equal((await rejects(countBytes(answer.body))).code, "timeout");
    await until(() => state.aborted !== undefined, "the handler's signal aborts");
    await until(() => pair.daemon.streams === 0, "no stream is left");
  },

  "a handler that throws answers with a problem; one that breaks off resets with its code":
    async () => {
      await using pair = await tunnelPair(app());
      const thrown = await pair.hub.request({ ...GET, path: "/throw" });
      assert.equal(thrown.status, 404);
      const problem: unknown = await new Response(thrown.body).json();
      assert.equal(DecoError.fromProblem(problem).code, "sandbox_not_found");
      const broken = await pair.hub.request({ ...GET, path: "/break" });
      assert.equal((await rejects(countBytes(broken.body))).code, "storage_failed");
    },

  "an answer before the upload's end arrives whole, and the upload stops": async () => {
    const sent: Counter = { bytes: 0 };
    await using pair = await tunnelPair(app());
    const body = chunks(512 * MIB, sent);
    const answer = await pair.hub.request({ ...GET, method: "POST", path: "/ignore", body });
    assert.equal(await new Response(answer.body).text(), "early");
    await until(() => sent.cancelled === true, "the upload stops");
    assert.ok(sent.bytes < 4 * MIB);
    assert.equal(pair.hub.streams, 0);
  },

  "a failing source of an upload fails the request and aborts the handler": async () => {
    const state: { aborted?: unknown } = {};
    await using pair = await tunnelPair(app(state));
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.error(new DecoError("storage_failed", "disk")),
    });
    const work = pair.hub.request({ ...GET, method: "POST", path: "/sink", body });
    assert.equal((await rejects(work)).code, "storage_failed");
    await until(() => state.aborted !== undefined, "the handler's signal aborts");
  },

  "a cut wire fails each open stream with tunnel_lost, and the handlers' requests abort":
    async () => {
      const state: { aborted?: unknown } = {};
      await using pair = await tunnelPair(app(state));
      const waiting = rejects(pair.hub.request({ ...GET, path: "/hang" }));
      const answer = await pair.hub.request({ ...GET, path: `/blob?n=${512 * MIB}` });
      const reading = rejects(countBytes(answer.body));
      await until(() => pair.daemon.streams === 2, "both are under way");
      pair.wire.cut();
      const lost = await waiting;
      assert.equal(lost.code, "tunnel_lost");
      assert.equal(lost.extensions["mayHaveExecuted"], true);
      assert.equal((await reading).code, "tunnel_lost");
      await until(() => state.aborted !== undefined, "the handler's signal aborts");
      assert.equal((await pair.hub.closed).code, 1006);
      const after = await rejects(pair.hub.request(GET));
      assert.equal(after.code, "tunnel_lost");
      assert.equal(after.extensions["mayHaveExecuted"], false);
    },

  "a half-open wire is found dead by both ends, a busy loop is not": async () => {
    await using pair = await tunnelPair(app(), { heartbeatMs: 60 });
    await until(() => pair.hub.rttMs !== undefined, "a heartbeat went round");
    const end = performance.now() + 500;
    while (performance.now() < end); // starves both ends at once
    assert.equal((await pair.hub.request(GET)).status, 200);
    pair.wire.stop();
    assert.equal((await pair.hub.closed).code, 4004);
    assert.equal((await pair.daemon.closed).code, 4004);
  },

  "a close tells code and reason to the other end": async () => {
    await using pair = await tunnelPair(app());
    pair.hub.close(4000, "a newer daemon took over");
    assert.deepEqual(await pair.daemon.closed, {
      code: 4000,
      reason: "a newer daemon took over",
    });
    assert.equal((await pair.hub.closed).code, 4000);
  },

  "a draining daemon ends what is under way, takes nothing new, and leaves with 4002": async () => {
    let release: (() => void) | undefined;
    await using pair = await tunnelPair(async () => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      return new Response("done");
    });
    const work = pair.hub.request(GET);
    await until(() => release !== undefined, "the handler runs");
    const drained = pair.daemon.drain(never);
    await until(() => !pair.hub.accepting, "the hub knows");
    const refused = await rejects(pair.hub.request(GET));
    assert.equal(refused.code, "tunnel_lost");
    assert.equal(refused.extensions["mayHaveExecuted"], false);
    release?.();
    assert.equal(await new Response((await work).body).text(), "done");
    await drained;
    assert.equal((await pair.hub.closed).code, 4002);
  },

  "a drain whose time is up leaves at once": async () => {
    await using pair = await tunnelPair(app());
    const work = rejects(pair.hub.request({ ...GET, path: "/hang" }));
    await until(() => pair.daemon.streams === 1, "the request is there");
    const abort = new AbortController();
    const drained = pair.daemon.drain(abort.signal);
    abort.abort();
    await drained;
    assert.equal((await work).code, "tunnel_lost");
    assert.equal((await pair.hub.closed).code, 4002);
  },

  "a request that the platform can't express is refused alone": async () => {
    await using pair = await tunnelPair(app());
    for (const request of [{ method: "TRACE" }, { path: "/a b" }, { method: "get" }])
      assert.equal(
        (await rejects(pair.hub.request({ ...GET, ...request }))).code,
        "invalid_request",
      );
    assert.equal((await pair.hub.request(GET)).status, 200);
  },

  "a head over 64 KiB is refused alone, in either direction": async () => {
    await using pair = await tunnelPair(
      async () => new Response("", { headers: { "x-long": "x".repeat(70_000) } }),
    );
    const headers = { "x-long": "x".repeat(70_000) };
    assert.equal((await rejects(pair.hub.request({ ...GET, headers }))).code, "invalid_request");
    assert.equal((await rejects(pair.hub.request(GET))).code, "invalid_request");
    assert.equal(pair.hub.streams, 0);
    assert.equal(pair.hub.accepting, true);
  },

  "more streams than allowed are refused, and none of the others suffers": async () => {
    await using pair = await tunnelPair(app(), { maxStreams: 3 });
    const abort = new AbortController();
    const open = [1, 2, 3].map(() =>
      rejects(pair.hub.request({ ...GET, path: "/hang", signal: abort.signal })),
    );
    const refused = await rejects(pair.hub.request(GET));
    assert.equal(refused.code, "tunnel_refused");
    assert.equal(refused.extensions["mayHaveExecuted"], false);
    abort.abort(new DecoError("timeout", "enough"));
    for (const error of await Promise.all(open)) assert.equal(error.code, "timeout");
    assert.equal((await pair.hub.request(GET)).status, 200);
  },

  "the daemon has no way to ask the hub": async () => {
    await using pair = await tunnelPair(app());
    assert.equal((await rejects(pair.daemon.request(GET))).code, "tunnel_refused");
  },

  "a refused dial throws the hub's code; a hub that is no hub is hub_unreachable": async () => {
    await using hub = await testHub();
    const dial = (secret: string, url = hub.url) =>
      dialTunnel({ url, headers: { "x-link-secret": secret }, handler: app(), signal: never });
    const revoked = await rejects(dial("revoked"));
    assert.equal(revoked.code, "revoked");
    assert.equal(revoked.message, "this link was revoked");
    assert.equal((await rejects(dial("html"))).code, "hub_unreachable");
    assert.equal((await rejects(dial("x", "http://127.0.0.1:1/"))).code, "hub_unreachable");
  },

  "an abort gives a dial up, and closes a tunnel that stands": async () => {
    await using hub = await testHub();
    const dial = async (signal: AbortSignal) =>
      dialTunnel({ url: hub.url, headers: {}, handler: app(), signal, onState });
    const states: string[] = [];
    const onState = (state: string) => states.push(state);
    const early = new AbortController();
    const work = dial(early.signal);
    early.abort(new DecoError("draining", "leaving"));
    assert.equal((await rejects(work)).code, "draining");
    const abort = new AbortController();
    const accepted = hub.next();
    const tunnel = await dial(abort.signal);
    const peer = await accepted;
    abort.abort();
    await tunnel.closed;
    assert.equal((await peer.closed).code, 1001);
    assert.deepEqual(states, ["dialing", "dialing", "open", "closed"]);
  },
};
