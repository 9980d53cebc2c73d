import { answerError } from "../net/answer-error.ts";
import { type HttpAnswer, httpRequest } from "../net/http-request.ts";
import { DecoError, type ErrorCode } from "../protocol/errors.ts";
import {
  type Heartbeat,
  HeartbeatAnswer,
  type RegisterBody,
  Registered,
} from "../protocol/messages.ts";

/** Codes with which a hub ends a session; everything else is weather. */
export const SESSION_ENDS: ReadonlySet<ErrorCode> = new Set([
  "unknown_link",
  "bad_secret",
  "secret_expired",
  "superseded",
  "revoked",
]);

/** The hub's link routes, as the daemon calls them. Each call is one request on its own connection. */
export interface HubApi {
  /** The origin that is dialled; what proofs are made for. */
  readonly origin: string;
  /** Where the tunnel is dialled. */
  readonly tunnelUrl: string;
  register(body: RegisterBody, o: { token?: string; signal: AbortSignal }): Promise<Registered>;
  heartbeat(secret: string, body: Heartbeat, signal: AbortSignal): Promise<HeartbeatAnswer>;
  /** Ends the epoch. Already gone is success. */
  leave(secret: string, signal: AbortSignal): Promise<void>;
}

/** No answer of these routes takes longer, in milliseconds. */
const DEADLINE_MS = 10_000;
const ANSWER_BYTES = 1024 * 1024;

/**
 * @throws DecoError `usage` for an address that is no http(s) origin, or is http off loopback
 *   without `insecure`.
 * @see PROTOCOL.md, section "Hub HTTP"
 */
export function hubApi(options: { hubUrl: string; insecure?: boolean }): HubApi {
  const base = hubOrigin(options.hubUrl, options.insecure ?? false);
  const call = (path: string, o: CallOptions) => ask(`${base.origin}${path}`, o);
  return {
    origin: base.origin,
    tunnelUrl: `${base.origin.replace(/^http/, "ws")}/api/links/tunnel`,
    async register(body, { token, signal }) {
      const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
      const answer = await call("/api/links", { method: "POST", headers, body, signal });
      return parse(Registered, await checked(answer, "unauthorized", signal));
    },
    async heartbeat(secret, body, signal) {
      const headers = { "x-link-secret": secret };
      const answer = await call("/api/links/heartbeat", { method: "POST", headers, body, signal });
      const value = await checked(answer, "unknown_link", signal).catch(unknownIfRefused);
      return parse(HeartbeatAnswer, value);
    },
    async leave(secret, signal) {
      const headers = { "x-link-secret": secret };
      const answer = await call("/api/links/me", { method: "DELETE", headers, signal });
      if (answer.status !== 204) throw await answerError(answer, "hub_unreachable");
      await answer.body.cancel();
    },
  };
}

interface CallOptions {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly signal: AbortSignal;
}

function ask(url: string, { method, headers, body, signal }: CallOptions): Promise<HttpAnswer> {
  return httpRequest({
    url,
    method,
    headers: {
      accept: "application/json",
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    // Of the whole exchange: a hub that trickles its body is as gone as a silent one.
    signal: AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)]),
    connectTimeoutMs: DEADLINE_MS,
    headersTimeoutMs: DEADLINE_MS,
    unreachable: "hub_unreachable",
  }).catch((thrown: unknown) => {
    signal.throwIfAborted();
    throw unreachable(thrown);
  });
}

/** The JSON of a 2xx answer. Statuses other than 401, 403, 404 and 426 decide nothing: weather. */
async function checked(
  answer: HttpAnswer,
  refused: ErrorCode,
  signal: AbortSignal,
): Promise<unknown> {
  const { status } = answer;
  if (status < 200 || status > 299) throw await answerError(answer, fallbackOf(status, refused));
  return answer.json(ANSWER_BYTES).catch((thrown: unknown) => {
    signal.throwIfAborted();
    throw unreachable(thrown);
  });
}

/** The code of an answer that brings none of its own. */
function fallbackOf(status: number, refused: ErrorCode): ErrorCode {
  if (status === 401 || status === 403) return refused;
  if (status === 404 && refused === "unknown_link") return refused;
  return status === 426 ? "upgrade_required" : "hub_unreachable";
}

/** However a hub says that it does not take this secret: registering again finds out (LESSONS 1). */
function unknownIfRefused(thrown: unknown): never {
  const error = DecoError.from(thrown, "hub_unreachable");
  const refused = error.info.status === 401 || error.info.status === 404;
  if (!refused || SESSION_ENDS.has(error.code)) throw error;
  throw new DecoError("unknown_link", error.message, { cause: error });
}

interface Schema<T> {
  safeParse(value: unknown): { success: true; data: T } | { success: false; error: Error };
}

function parse<T>(schema: Schema<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new DecoError("hub_unreachable", `the hub's answer does not fit: ${parsed.error.message}`, {
    cause: parsed.error,
    fix: "Check that --hub names a deco hub, and update deco link.",
  });
}

function unreachable(thrown: unknown): DecoError {
  if (thrown instanceof DecoError && thrown.code === "hub_unreachable") return thrown;
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  return new DecoError("hub_unreachable", `the hub gave no usable answer: ${why}`, {
    cause: thrown,
  });
}

const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);

function hubOrigin(hubUrl: string, insecure: boolean): URL {
  const url = URL.canParse(hubUrl) ? new URL(hubUrl) : undefined;
  if (url === undefined || !["http:", "https:"].includes(url.protocol)) {
    throw new DecoError("usage", `not an address of a hub: ${hubUrl}`, {
      fix: "Give --hub as https://HOST[:PORT].",
    });
  }
  if (url.protocol === "http:" && !insecure && !LOOPBACK.has(url.hostname)) {
    throw new DecoError("usage", `${url.origin} is off loopback and not https`, {
      fix: "Use https://, or lift this with --insecure.",
    });
  }
  return url;
}
