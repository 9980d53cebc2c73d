import type { IncomingMessage, ServerResponse } from "node:http";
import { DecoError } from "../../protocol/errors.ts";
import { forward, tooLarge } from "./forward.ts";
import { DEFAULT_LIMITS, Grants, type ModelLimits, type ModelUsage } from "./grants.ts";
import { refuse } from "./refuse.ts";
import { findRoute, type ModelRoute } from "./routes.ts";
import { type ModelListener, serveSocket, serveTcp } from "./serve.ts";
import type { ModelUpstream, ModelUpstreams } from "./upstreams.ts";

export interface ModelProxyOptions {
  /** Addresses and keys; from the laptop's own configuration only. */
  readonly upstreams: ModelUpstreams;
  readonly limits?: Partial<ModelLimits>;
  /** 32 secret bytes, kept over restarts, so that a run that outlives the daemon keeps its token. */
  readonly tokenKey?: Uint8Array;
  readonly log: { info(fields: object, message: string): void };
}

/**
 * The one way from a sandbox to a model: what is inside holds a token of its run, and the daemon
 * adds the real key.
 *
 * @see PROTOCOL.md, section "Model proxy"
 */
export interface ModelProxy {
  /** Listens on `${runDir}/model.sock`; only `uid` (and root) can connect. */
  openSandbox(o: { runDir: string; uid: number }): Promise<ModelListener>;
  /** Listens on the host gateway, where sockets can't cross into an engine's VM. */
  listenTcp(o: { host: string; port: number }): Promise<ModelListener>;
  /** The run's token, the same each time; dead after {@link ModelProxy.revoke}. */
  grant(runId: string): { token: string };
  revoke(runId: string): void;
  /** By the daemon's own look; zeros for a run that used nothing. */
  usage(runId: string): ModelUsage;
}

export function createModelProxy(options: ModelProxyOptions): ModelProxy {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const grants = new Grants(limits, options.tokenKey);
  const handler = (request: IncomingMessage, response: ServerResponse) => {
    answer({ ...options, request, response, grants, limits }).catch((thrown: unknown) => {
      const error = DecoError.from(thrown, "model_failed");
      options.log.info({ code: error.code, detail: error.message }, "model request refused");
      refuse(response, error);
    });
  };
  return {
    openSandbox: (o) => serveSocket(handler, o),
    listenTcp: (o) => serveTcp(handler, o),
    grant: (runId) => grants.grant(runId),
    revoke: (runId) => grants.revoke(runId),
    usage: (runId) => grants.usage(runId),
  };
}

async function answer(o: {
  request: IncomingMessage;
  response: ServerResponse;
  upstreams: ModelUpstreams;
  grants: Grants;
  limits: ModelLimits;
}): Promise<void> {
  const { request, response, grants, limits } = o;
  request.on("error", () => response.destroy());
  const { route, upstream } = target(request, o.upstreams);
  if (Number(request.headers["content-length"] ?? 0) > limits.maxBodyBytes) {
    throw tooLarge(limits.maxBodyBytes);
  }
  using admission = grants.admit(tokensOf(request));
  const { maxBodyBytes } = limits;
  await forward({ request, response, route, upstream, admission, maxBodyBytes });
}

function target(
  request: IncomingMessage,
  upstreams: ModelUpstreams,
): { route: ModelRoute; upstream: ModelUpstream } {
  const speaksAnthropic =
    request.headers["anthropic-version"] !== undefined || upstreams.openai === undefined;
  const route = findRoute(request.method ?? "", request.url ?? "", speaksAnthropic);
  if (route === undefined) {
    throw new DecoError("model_refused", "the model proxy forwards only its listed paths");
  }
  const upstream = upstreams[route.upstream];
  if (upstream === undefined) {
    throw new DecoError("model_unconfigured", `this laptop has no access to ${route.upstream}`);
  }
  return { route, upstream };
}

/** Both ways in which the services' clients send a key. */
function tokensOf({ headers }: IncomingMessage): string[] {
  const bearer = /^Bearer (\S+)$/i.exec(headers.authorization ?? "")?.[1];
  const key = headers["x-api-key"];
  return [bearer, key].filter((token) => typeof token === "string");
}
