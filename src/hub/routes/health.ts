import { z } from "zod";
import { DecoError } from "../../protocol/errors.ts";
import type { HubContext } from "../hub-context.ts";
import { metricsText } from "../metrics.ts";
import { openapiDocument } from "../openapi.ts";
import { noBody, type Route, route } from "../route.ts";

const Health = z.object({ status: z.literal("ok") });

/** Liveness, readiness, and the description of everything else. */
export function healthRoutes(hub: HubContext, all: () => readonly Route[]): Route[] {
  const { store, version } = hub;
  return [
    route(
      {
        method: "GET",
        path: "/healthz",
        summary: "The process answers",
        auth: "none",
        body: noBody,
        answers: { 200: { description: "Alive", schema: Health } },
        errors: [],
      },
      ({ c }) => c.json({ status: "ok" }),
    ),
    route(
      {
        method: "GET",
        path: "/readyz",
        summary: "The store answers, too",
        auth: "none",
        body: noBody,
        answers: { 200: { description: "Ready", schema: Health } },
        errors: ["unavailable"],
      },
      ({ c }) => {
        if (!store.ready()) throw new DecoError("unavailable", "the store does not answer");
        return c.json({ status: "ok" });
      },
    ),
    route(
      {
        method: "GET",
        path: "/metrics",
        summary: "Counts for Prometheus",
        auth: "none",
        body: noBody,
        answers: { 200: { description: "Prometheus text", type: "text/plain" } },
        errors: [],
      },
      ({ c }) => c.text(metricsText(hub), 200, { "content-type": "text/plain; version=0.0.4" }),
    ),
    route(
      {
        method: "GET",
        path: "/openapi.json",
        summary: "This document",
        auth: "none",
        body: noBody,
        answers: { 200: { description: "OpenAPI 3.1" } },
        errors: [],
      },
      ({ c }) => c.json(openapiDocument(all(), version)),
    ),
  ];
}
