import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { refuseUpgrade, upgradeToTunnel } from "../net/tunnel-accept.ts";
import type { TunnelPeer } from "../net/tunnel-peer.ts";
import { DecoError } from "../protocol/errors.ts";
import { CLOSE } from "../protocol/mux.ts";
import type { LinkRoute } from "./control-client.ts";
import { sleep } from "./deadline.ts";
import type { Guard } from "./guard.ts";
import type { HubLog } from "./hub-log.ts";
import type { Reach } from "./reach.ts";
import type { Registry } from "./registry.ts";
import type { LinkRow } from "./store/links.ts";

export interface RelayOptions {
  readonly guard: Guard;
  readonly registry: Registry;
  readonly reach: Reach;
  readonly log: HubLog;
  readonly heartbeatMs?: number | undefined;
}

const PATH = "/api/links/tunnel";
/** 1001 of RFC 6455, 7.4.1: going away; the daemon may dial again. */
const CLOSE_CODES = {
  superseded: CLOSE.superseded,
  revoked: CLOSE.revoked,
  replaced: 1001,
  gone: 1001,
} as const;
const PROBE = { timeoutMs: 10_000, pauseMs: 500 } as const;

/** The hub's end of the tunnels: at most one per link, the newest connection wins. */
export class Relay {
  readonly #options: RelayOptions;
  /** Of each link, also before it was probed. */
  readonly #routes = new Map<string, LinkRoute>();

  constructor(options: RelayOptions) {
    this.#options = options;
  }

  /** Takes a raw upgrade; what is refused gets a problem document. */
  readonly onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    this.#accept(request, socket, head).catch((error: unknown) => {
      const refusal = DecoError.from(error);
      this.#options.log.info({ code: refusal.code }, "tunnel refused");
      if (!socket.destroyed) refuseUpgrade(socket, refusal);
    });
  };

  async #accept(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { guard, registry, log, heartbeatMs } = this.#options;
    guard.checkHost(request.headers.host);
    if (new URL(request.url ?? "/", "http://hub").pathname !== PATH) {
      throw new DecoError("not_found", "upgrades are taken at the tunnel's path only");
    }
    if (request.headers.origin !== undefined) {
      throw new DecoError("origin_refused", "a page may not open a tunnel");
    }
    const secret = request.headers["x-link-secret"];
    const link = await registry.authenticate(typeof secret === "string" ? secret : undefined);
    const peer = await upgradeToTunnel(
      request,
      socket,
      head,
      heartbeatMs === undefined ? {} : { heartbeatMs },
    );
    const route = tunnelRoute(link, peer);
    const before = this.#routes.get(link.linkId);
    // A registration may have come between the look at the registry and now.
    if (before !== undefined && before.epoch > link.epoch) {
      route.close("superseded");
      return;
    }
    this.#routes.set(link.linkId, route);
    route.signal.addEventListener("abort", () => this.#forget(link.linkId, route), { once: true });
    before?.close("replaced");
    log.info(
      { linkId: link.linkId, epoch: link.epoch },
      "tunnel open, probing the daemon through it",
    );
    await this.#probe(route);
  }

  /** The link counts as reachable once the daemon answered through the tunnel (LESSONS 10). */
  async #probe(route: LinkRoute): Promise<void> {
    const { reach, log } = this.#options;
    const client = reach.clientFor(route);
    const { linkId } = route;
    while (!route.signal.aborted) {
      try {
        const { timeoutMs } = PROBE;
        await client.call({ method: "GET", path: "/v1/status", signal: route.signal, timeoutMs });
        reach.up(route, client);
        return;
      } catch (error) {
        const { code, message } = DecoError.from(error);
        if (route.signal.aborted) return;
        log.warn(
          { linkId, code, detail: message },
          "the daemon did not answer through its tunnel, asking again",
        );
        await sleep(PROBE.pauseMs, route.signal);
      }
    }
  }

  /** Closes the tunnel of an older epoch at once. */
  dropOlder(linkId: string, epoch: number, reason: "superseded" | "revoked" | "gone"): void {
    const route = this.#routes.get(linkId);
    if (route !== undefined && route.epoch < epoch) route.close(reason);
  }

  close(): void {
    for (const route of this.#routes.values()) route.close("gone");
  }

  #forget(linkId: string, route: LinkRoute): void {
    if (this.#routes.get(linkId) === route) this.#routes.delete(linkId);
  }
}

function tunnelRoute(link: LinkRow, peer: TunnelPeer): LinkRoute {
  const ended = new AbortController();
  const end = (why: string) =>
    ended.abort(new DecoError("tunnel_lost", `the tunnel is gone: ${why}`));
  peer.closed.then(({ code, reason }) => end(`${code} ${reason}`)).catch(() => end("it broke"));
  return {
    linkId: link.linkId,
    epoch: link.epoch,
    signal: ended.signal,
    request: (request) => peer.request(request),
    close(reason) {
      end(reason);
      peer.close(CLOSE_CODES[reason], reason);
    },
  };
}
