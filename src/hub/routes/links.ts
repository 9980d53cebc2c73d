import { z } from "zod";
import { DecoError } from "../../protocol/errors.ts";
import {
  Heartbeat,
  HeartbeatAnswer,
  PROTOCOL,
  Register,
  Registered,
} from "../../protocol/messages.ts";
import type { HubContext } from "../hub-context.ts";
import { noBody, type Route, route } from "../route.ts";
import { LinkViewSchema } from "../schemas.ts";

const LINK_ERRORS = [
  "bad_secret",
  "secret_expired",
  "unknown_link",
  "superseded",
  "revoked",
] as const;

/** Registration, heartbeat, leave, and what users see of their links. */
export function linkRoutes(hub: HubContext): Route[] {
  return [...enrolment(hub), ...ofTheDaemon(hub), ...ofTheUser(hub)];
}

function enrolment({ registry, auth, guard }: HubContext): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/api/links",
        summary: "Register a link: the first time with a user token, later by the proof alone",
        auth: "proof",
        body: Register,
        before: checkProtocol,
        maxBodyBytes: 256 * 1024,
        answers: {
          201: { description: "A new epoch; the one before is dead", schema: Registered },
        },
        errors: [
          "bad_proof",
          "unauthorized",
          "revoked",
          "identity_changed",
          "upgrade_required",
          "localhost_links_disabled",
        ],
      },
      async ({ c, body }) => {
        const user = await userOfRegistration(c.req.raw, (request) => auth.user(request));
        const audiences = guard.origins(c.req.header("host"));
        return c.json(await registry.register(body, user, audiences), 201);
      },
    ),
  ];
}

function ofTheDaemon({ registry }: HubContext): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/api/links/heartbeat",
        summary: "Say that a link is there, and what it works on",
        auth: "link",
        admit: (c) => registry.authenticate(c.req.header("x-link-secret")),
        body: Heartbeat,
        maxBodyBytes: 1024 * 1024,
        answers: {
          200: { description: "The hub's time, and runs to cancel", schema: HeartbeatAnswer },
        },
        errors: LINK_ERRORS,
      },
      async ({ c, body }) => c.json(await registry.heartbeat(c.req.header("x-link-secret"), body)),
    ),
    route(
      {
        method: "DELETE",
        path: "/api/links/me",
        summary: "End this epoch; identity, pins and unacknowledged runs stay",
        auth: "link",
        body: noBody,
        answers: { 204: { description: "Offline, or suspended while runs are left" } },
        errors: LINK_ERRORS,
      },
      async ({ c }) => {
        await registry.leave(c.req.header("x-link-secret"));
        return c.body(null, 204);
      },
    ),
    route(
      {
        method: "GET",
        path: "/api/links/tunnel",
        summary: "The tunnel: a WebSocket upgrade by the link daemon",
        auth: "link",
        body: noBody,
        answers: { 101: { description: "The tunnel stands" } },
        errors: LINK_ERRORS,
      },
      async ({ c }) => {
        await registry.authenticate(c.req.header("x-link-secret"));
        throw new DecoError("invalid_request", "this path takes a WebSocket upgrade only");
      },
    ),
  ];
}

function ofTheUser({ registry, presence }: HubContext): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/api/links/me",
        summary: "Your links",
        auth: "user",
        body: noBody,
        answers: { 200: { description: "The best link, and all of them", schema: MyLinks } },
        errors: [],
      },
      ({ c, user }) => {
        const links = presence.ofUser(user);
        const [link] = links;
        return c.json({ status: link?.status ?? "offline", link: link ?? null, links });
      },
    ),
    route(
      {
        method: "DELETE",
        path: "/api/links/:id",
        summary: "Revoke a link: its proof alone does not bring it back",
        auth: "user",
        body: noBody,
        answers: { 204: { description: "Revoked" } },
        errors: ["link_not_found"],
      },
      ({ c, user }) => {
        registry.revoke(user, c.req.param("id") ?? "");
        return c.body(null, 204);
      },
    ),
  ];
}

const MyLinks = z.object({
  status: z.enum(["online", "suspended", "offline"]),
  link: LinkViewSchema.nullable(),
  links: z.array(LinkViewSchema),
});

/** Before the schema: a daemon of another age gets told what to do, whatever else it sends. */
function checkProtocol(value: unknown): void {
  const { data } = z.object({ protocolVersion: z.number() }).safeParse(value);
  const version = data?.protocolVersion;
  if (version === undefined || !Number.isInteger(version)) return;
  if (version >= PROTOCOL.min && version <= PROTOCOL.max) return;
  throw new DecoError(
    "upgrade_required",
    `this hub speaks protocol ${PROTOCOL.min} to ${PROTOCOL.max}, not ${version}`,
    {
      extensions: { requiredVersion: PROTOCOL.max, installHint: "npm i -g deco-link@latest" },
    },
  );
}

/**
 * The user of a registration that brings a token. A token that merely ran out is no reason to lock
 * out a laptop that slept: then the proof has to do. A link secret in its place is refused.
 */
async function userOfRegistration(
  request: Request,
  user: (request: Request) => Promise<string>,
): Promise<string | undefined> {
  const header = request.headers.get("authorization");
  if (header === null) return undefined;
  try {
    return await user(request);
  } catch (error) {
    if (isExpiredJwt(header)) return undefined;
    throw error;
  }
}

/** Read without a check of its signature: it only decides between two ways to be refused. */
function isExpiredJwt(header: string): boolean {
  try {
    const [, payload = ""] = header.replace(/^Bearer +/i, "").split(".");
    const claims: unknown = JSON.parse(Buffer.from(payload, "base64url").toString("utf8"));
    const { success, data } = z
      .object({ aud: z.literal("deco:user"), exp: z.number() })
      .safeParse(claims);
    return success && data.exp * 1000 < Date.now();
  } catch {
    return false;
  }
}
