import { type ControlClient, controlClient, type LinkRoute } from "./control-client.ts";

/** A link that can be asked now. */
export interface Reachable {
  readonly route: LinkRoute;
  readonly client: ControlClient;
}

export interface ReachOptions {
  readonly keyOf: (linkId: string, epoch: number) => Uint8Array;
  readonly now: () => number;
  readonly onUp: (linkId: string, reachable: Reachable) => void;
  readonly onDown: (linkId: string) => void;
}

/**
 * Which links can be reached, and how: one way per link, of its newest epoch. A way is added only
 * after the daemon answered through it, rightly signed.
 */
export class Reach {
  readonly #ways = new Map<string, Reachable>();
  readonly #options: ReachOptions;

  constructor(options: ReachOptions) {
    this.#options = options;
  }

  get(linkId: string): Reachable | undefined {
    return this.#ways.get(linkId);
  }

  /** A client for a way that was not tried yet. */
  clientFor(route: LinkRoute): ControlClient {
    const { keyOf, now } = this.#options;
    return controlClient({ route, key: keyOf(route.linkId, route.epoch), now });
  }

  /** The newest way of a link wins; the one before is closed. */
  up(route: LinkRoute, client: ControlClient): void {
    if (route.signal.aborted) return;
    this.#drop(route.linkId, "replaced");
    const reachable = { route, client };
    this.#ways.set(route.linkId, reachable);
    route.signal.addEventListener("abort", () => this.#forget(route), { once: true });
    this.#options.onUp(route.linkId, reachable);
  }

  /** Closes the way of a link if it is of an older epoch than the given one. */
  dropOlder(linkId: string, epoch: number, reason: "superseded" | "revoked" | "gone"): void {
    const way = this.#ways.get(linkId);
    if (way !== undefined && way.route.epoch < epoch) this.#drop(linkId, reason);
  }

  closeAll(): void {
    for (const linkId of this.#ways.keys()) this.#drop(linkId, "gone");
  }

  #drop(linkId: string, reason: Parameters<LinkRoute["close"]>[0]): void {
    const way = this.#ways.get(linkId);
    if (way === undefined) return;
    this.#forget(way.route);
    way.route.close(reason);
  }

  #forget(route: LinkRoute): void {
    if (this.#ways.get(route.linkId)?.route !== route) return;
    this.#ways.delete(route.linkId);
    this.#options.onDown(route.linkId);
  }
}
