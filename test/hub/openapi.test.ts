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
