import { z } from "zod";
import { ERRORS, type ErrorCode } from "../protocol/errors.ts";
import type { Answer, Route, RouteAuth } from "./route.ts";
import { ProblemSchema } from "./schemas.ts";

/** The OpenAPI 3.1 document of a route table. */
export function openapiDocument(routes: readonly Route[], version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const { spec } of routes) {
    const path = openapiPath(spec.path);
    paths[path] = { ...paths[path], [spec.method.toLowerCase()]: operation(spec) };
  }
  return {
    openapi: "3.1.0",
    info: { title: "deco link hub", version, description: "See PROTOCOL.md." },
    paths,
    components: {
      schemas: { Problem: jsonSchema(ProblemSchema, "output") },
      securitySchemes: {
        userToken: { type: "http", scheme: "bearer", bearerFormat: "JWT" },
        session: { type: "apiKey", in: "cookie", name: "deco_session" },
        linkSecret: { type: "apiKey", in: "header", name: "X-Link-Secret" },
      },
    },
  };
}

/** `/api/runs/:id` as OpenAPI writes it. */
export function openapiPath(path: string): string {
  return path.replaceAll(/:([a-z]+)/gi, "{$1}");
}

const SECURITY: Readonly<Record<RouteAuth, object[]>> = {
  user: [{ userToken: [] }, { session: [] }],
  session: [{ session: [] }],
  link: [{ linkSecret: [] }],
  proof: [{ userToken: [] }, {}],
  none: [],
};

function operation(spec: Route["spec"]): object {
  const type = spec.form === true ? "application/x-www-form-urlencoded" : "application/json";
  const body =
    spec.streams !== undefined
      ? { requestBody: { required: true, content: { [spec.streams]: {} } } }
      : spec.body instanceof z.ZodUndefined
        ? {}
        : {
            requestBody: {
              required: spec.optionalBody !== true,
              content: { [type]: { schema: jsonSchema(spec.body, "input") } },
            },
          };
  return {
    summary: spec.summary,
    security: SECURITY[spec.auth],
    parameters: parameters(spec),
    ...body,
    responses: { ...answers(spec.answers), ...problems(errorsOf(spec)) },
  };
}

function parameters({ path, query = {}, headers = {} }: Route["spec"]): object[] {
  const schema = { type: "string" };
  const names = [...path.matchAll(/:([a-z]+)/gi)].map((match) => match[1] ?? "");
  const one =
    (place: string) =>
    ([name, description]: [string, string]) => ({ name, in: place, description, schema });
  return [
    ...names.map((name) => ({ name, in: "path", required: true, schema })),
    ...Object.entries(query).map(one("query")),
    ...Object.entries(headers).map(one("header")),
  ];
}

function answers(table: Readonly<Record<number, Answer>>): object {
  const entries = Object.entries(table).map(([status, { description, schema, type }]) => {
    const content =
      schema === undefined
        ? type === undefined
          ? {}
          : { content: { [type]: { schema: { type: "string" } } } }
        : { content: { [type ?? "application/json"]: { schema: jsonSchema(schema, "output") } } };
    return [status, { description, ...content }] as const;
  });
  return Object.fromEntries(entries);
}

/** The route's own codes, and those that its kind always has. */
function errorsOf(spec: Route["spec"]): ErrorCode[] {
  const byBody: ErrorCode[] = [
    "invalid_request",
    "invalid_json",
    "unsupported_media_type",
    "body_too_large",
  ];
  const byAuth: ErrorCode[] = spec.auth === "user" ? ["unauthorized", "origin_refused"] : [];
  const always: ErrorCode[] = ["misdirected_request", "unavailable"];
  return [
    ...new Set([
      ...spec.errors,
      ...byAuth,
      ...(spec.body instanceof z.ZodUndefined ? [] : byBody),
      ...always,
    ]),
  ];
}

function problems(codes: readonly ErrorCode[]): object {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of codes) {
    const { status } = ERRORS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const entries = [...byStatus].map(([status, group]) => {
    const content = {
      "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } },
    };
    return [
      String(status),
      { description: `Code ${group.toSorted().join(", ")}`, content },
    ] as const;
  });
  return Object.fromEntries(entries);
}

function jsonSchema(schema: z.ZodType, io: "input" | "output"): object {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return rest;
}
