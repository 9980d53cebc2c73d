import { z } from "zod";
import { DecoError } from "../../protocol/errors.ts";
import type { HubContext } from "../hub-context.ts";
import { problemResponse } from "../problem.ts";
import { type Route, route } from "../route.ts";

const GRANT = "urn:ietf:params:oauth:grant-type:device_code";

const DeviceAnswer = z.object({
  device_code: z.string(),
  user_code: z.string(),
  verification_uri: z.string(),
  verification_uri_complete: z.string(),
  expires_in: z.int(),
  interval: z.int(),
});
const TokenAnswer = z.object({
  access_token: z.string(),
  token_type: z.literal("Bearer"),
  expires_in: z.int(),
});

/** The device flow (RFC 8628). Its errors are problem documents with OAuth's `error` in them. */
export function oauthRoutes(hub: HubContext): Route[] {
  return [startRoute(hub), tokenRoute(hub), approveRoute(hub)];
}

function startRoute({ deviceFlow, publicOrigin }: HubContext): Route {
  return route(
    {
      method: "POST",
      path: "/oauth/device_authorization",
      summary: "Begin a sign-in without a browser",
      auth: "none",
      form: true,
      optionalBody: true,
      // OAuth asks servers to ignore parameters that they don't know.
      body: z.object({
        client_id: z.string().max(255).optional(),
        scope: z.string().max(255).optional(),
      }),
      maxBodyBytes: 16 * 1024,
      answers: {
        200: { description: "Codes for the device and for its user", schema: DeviceAnswer },
      },
      errors: [],
    },
    ({ c }) => {
      c.header("cache-control", "no-store");
      return c.json(deviceFlow.start(publicOrigin(c.req.header("host"))));
    },
  );
}

function tokenRoute({ deviceFlow }: HubContext): Route {
  return route(
    {
      method: "POST",
      path: "/oauth/token",
      summary: "Poll for the user token",
      auth: "none",
      form: true,
      body: z.object({
        // Left out is answered in OAuth's words, below.
        grant_type: z.string().max(255).default(""),
        device_code: z.string().max(255).default(""),
        client_id: z.string().max(255).optional(),
      }),
      maxBodyBytes: 16 * 1024,
      answers: { 200: { description: "The user token", schema: TokenAnswer } },
      errors: ["authorization_pending", "slow_down", "expired_token", "access_denied"],
    },
    async ({ c, body }) => {
      try {
        if (body.grant_type !== GRANT)
          throw new DecoError("invalid_request", `grant_type must be ${GRANT}`);
        if (body.device_code === "")
          throw new DecoError("invalid_request", "device_code is missing");
        c.header("cache-control", "no-store");
        return c.json(await deviceFlow.token(body.device_code));
      } catch (error) {
        return problemResponse(withOauthError(DecoError.from(error), body.grant_type));
      }
    },
  );
}

function approveRoute({ deviceFlow }: HubContext): Route {
  return route(
    {
      method: "POST",
      path: "/api/device/approve",
      summary: "Approve, or deny, the code that a terminal shows",
      auth: "session",
      body: z.strictObject({ userCode: z.string().min(1).max(32), approve: z.boolean() }),
      answers: { 204: { description: "Decided" } },
      errors: ["unauthorized", "origin_refused", "invalid_request", "rate_limited"],
    },
    ({ c, user, body }) => {
      deviceFlow.decide({ user, ...body });
      return c.body(null, 204);
    },
  );
}

function withOauthError(error: DecoError, grantType: string): DecoError {
  const known = grantType === GRANT || grantType === "";
  const name = known ? error.code : "unsupported_grant_type";
  return new DecoError(error.code, error.message, {
    fix: error.fix,
    cause: error,
    extensions: { ...error.extensions, error: name, error_description: error.message },
  });
}
