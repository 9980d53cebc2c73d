import { expect, test } from "bun:test";
import { z } from "zod";
import { hubRoutes } from "../../src/hub/app.ts";
import { buildHub } from "../../src/hub/main.ts";
import { openapiPath } from "../../src/hub/openapi.ts";
import { call } from "../support/hub-call.ts";
import { HubFixture } from "../support/hub-fixture.ts";

const Paths = z.record(z.string(), z.record(z.string(), z.looseObject({ summary: z.string() })));
const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };

test("the document is OpenAPI 3.1 and holds every route that is mounted", async () => {
  await using fixture = await HubFixture.start();
  const { body } = await call(fixture.url, { path: "/openapi.json" });
  expect(body["openapi"]).toBe("3.1.0");
  const paths = Paths.parse(body["paths"]);
  const { context, app } = buildHub({ port: 0, dataDir: `${fixture.dataDir}/other`, log: quiet });
  const mounted = app.routes.filter(({ method }) => method !== "ALL");
  expect(mounted.length).toBe(hubRoutes(context).length);
  for (const { method, path } of mounted) {
    expect(paths[openapiPath(path)]?.[method.toLowerCase()]?.summary).toBeString();
  }
  context.store.close();
});

test("each path of the contract is there, with its body and its codes", async () => {
  await using fixture = await HubFixture.start();
  const { body } = await call(fixture.url, { path: "/openapi.json" });
  const text = JSON.stringify(body["paths"]);
  for (const path of [
    "/api/links",
    "/api/links/heartbeat",
    "/api/links/me",
    "/api/links/tunnel",
    "/api/runs/{id}/events",
    "/oauth/token",
    "/healthz",
    "/readyz",
  ]) {
    expect(text).toContain(`"${path}"`);
  }
  for (const code of [
    "capability_missing",
    "thread_pinned",
    "idempotency_key_reused",
    "localhost_links_disabled",
  ]) {
    expect(text).toContain(code);
  }
  expect(text).toContain("application/x-www-form-urlencoded");
  expect(text).toContain("text/event-stream");
});

test("alive and ready say so", async () => {
  await using fixture = await HubFixture.start();
  expect((await call(fixture.url, { path: "/healthz" })).body).toEqual({ status: "ok" });
  expect((await call(fixture.url, { path: "/readyz" })).body).toEqual({ status: "ok" });
});

test("the metrics count links and runs, and name nobody", async () => {
  await using fixture = await HubFixture.start();
  await fixture.linked("ada");
  await fixture.dispatch(await fixture.token("ada"));
  const { status, headers, text } = await call(fixture.url, { path: "/metrics" });
  expect(status).toBe(200);
  expect(headers.get("content-type")).toStartWith("text/plain");
  expect(text).toContain('deco_hub_links{status="online"} 1\n');
  expect(text).toContain('deco_hub_runs{status="queued"} 1\n');
  expect(text).not.toContain("ada");
});
