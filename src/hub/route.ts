import type { Context, Hono } from "hono";
import { z } from "zod";
import { readAll } from "../net/web-stream.ts";
import { DecoError, type ErrorCode } from "../protocol/errors.ts";
import type { Auth } from "./auth.ts";
import { isJson } from "./guard.ts";

/** Who may use a route; each kind of credential is refused everywhere else. */
export type RouteAuth = "user" | "session" | "link" | "proof" | "none";

export interface Answer {
  readonly description: string;
  readonly schema?: z.ZodType;
  /** `application/json` when absent. */
  readonly type?: string;
}

/** One route as the OpenAPI document and the server both know it. */
export interface RouteSpec<Body extends z.ZodType> {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** In Hono's form: `/api/runs/:id`. */
  readonly path: string;
  readonly summary: string;
  readonly auth: RouteAuth;
  /** `noBody` where none is taken. */
  readonly body: Body;
  /** Content type of a body that the handler reads as a stream. */
  readonly streams?: string;
  /** The body may be left out; it is then `{}`. */
  readonly optionalBody?: boolean;
  /** `application/x-www-form-urlencoded` in the place of JSON. */
  readonly form?: boolean;
  /** Refuses a caller before anything of the body is read. */
  readonly admit?: (c: Context) => Promise<unknown>;
  /** Looks at the body before its schema does. */
  readonly before?: (value: unknown) => void;
  readonly maxBodyBytes?: number;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly answers: Readonly<Record<number, Answer>>;
  readonly errors: readonly ErrorCode[];
}

export interface RouteInput<Body> {
  readonly c: Context;
  /** Of a valid token or session; empty where the route asks for neither. */
  readonly user: string;
  readonly body: Body;
}

/** A route that was given its handler. */
export interface Route {
  readonly spec: RouteSpec<z.ZodType>;
  handle(c: Context, auth: Auth): Promise<Response>;
}

export const noBody = z.undefined();

const MAX_BODY_BYTES = 4 * 1024 * 1024;

/** Ties a description to its handler: authorise, then content type, size, JSON, schema. */
export function route<Body extends z.ZodType = z.ZodUndefined>(
  spec: RouteSpec<Body>,
  handler: (input: RouteInput<z.output<Body>>) => Response | Promise<Response>,
): Route {
  return {
    spec,
    async handle(c, auth) {
      const user = await userOf(spec.auth, c.req.raw, auth);
      await spec.admit?.(c);
      return handler({ c, user, body: await readBody(spec, c) });
    },
  };
}

async function userOf(kind: RouteAuth, request: Request, auth: Auth): Promise<string> {
  if (kind === "user") return auth.user(request);
  return kind === "session" ? auth.pageUser(request) : "";
}

async function readBody<T extends z.ZodType>(spec: RouteSpec<T>, c: Context): Promise<z.output<T>> {
  const { body: schema } = spec;
  if (schema instanceof z.ZodUndefined) return parsed(schema, undefined);
  const type = c.req.header("content-type") ?? null;
  const declared = Number(c.req.header("content-length") ?? 0);
  const limit = spec.maxBodyBytes ?? MAX_BODY_BYTES;
  if (declared > limit) throw new DecoError("body_too_large", `the limit is ${limit} bytes`);
  const bytes = c.req.raw.body === null ? new Uint8Array() : await readAll(c.req.raw.body, limit);
  if (bytes.length === 0 && spec.optionalBody === true) return parsed(schema, {});
  if (spec.form === true) {
    if (!/^application\/x-www-form-urlencoded\s*(;|$)/i.test(type ?? "")) {
      throw new DecoError("unsupported_media_type", "this route takes a form", {
        fix: "Send content-type: application/x-www-form-urlencoded.",
      });
    }
    return parsed(schema, Object.fromEntries(new URLSearchParams(new TextDecoder().decode(bytes))));
  }
  if (!isJson(type))
    throw new DecoError("unsupported_media_type", "this route takes application/json");
  const value = json(bytes);
  spec.before?.(value);
  return parsed(schema, value);
}

function json(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as unknown;
  } catch (cause) {
    throw new DecoError("invalid_json", "the body is not JSON", { cause });
  }
}

/** @throws DecoError invalid_request, naming the first member that does not fit. */
export function parsed<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues.slice(0, 10).map(({ path, message }) => ({
    path: path.map(String).join("."),
    message: message.slice(0, 500),
  }));
  const [first] = issues;
  throw new DecoError("invalid_request", `${first?.path || "body"}: ${first?.message}`, {
    extensions: { issues },
  });
}

/** Mounts the table; a known path with another method is 405, with what it allows. */
export function mountRoutes(app: Hono, routes: readonly Route[], auth: Auth): void {
  const methods = new Map<string, string[]>();
  for (const one of routes) {
    const { method, path } = one.spec;
    app.on(method, path, (c) => one.handle(c, auth));
    methods.set(path, [...(methods.get(path) ?? []), method]);
  }
  for (const [path, allowed] of methods) {
    app.all(path, (c) => {
      const names = allowed.includes("GET") ? [...allowed, "HEAD"] : allowed;
      c.header("allow", names.join(", "));
      throw new DecoError("method_not_allowed", `${c.req.method} is not for this path`, {
        extensions: { allow: names },
      });
    });
  }
}
