import type { Duplex } from "node:stream";

/** What the transport gives beside the request (`c.env` in handlers). */
export interface ControlEnv {
  /** The request target as it came, before a URL parser read it: the signature is over that. */
  readonly target?: string | undefined;
  /** There for upgrades only: sends the head (101) and gives the raw connection. */
  readonly tunnelUpgrade?: ((head: UpgradeHead) => Duplex) | undefined;
  /** Whether it came with a hub's signature; else it is the laptop's own socket. */
  readonly signed?: true | undefined;
  /** Called by handlers whose answer is a stream: it is passed on as it is, unsigned. */
  readonly markStream?: () => void;
}

export interface UpgradeHead {
  readonly headers: Headers;
}

/** A control plane, signed or not: an answer for a request. */
export interface ControlFetch {
  fetch(request: Request, env?: ControlEnv): Promise<Response>;
}
