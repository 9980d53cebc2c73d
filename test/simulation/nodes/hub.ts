import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { z } from "zod";
import { buildHub } from "../../../src/hub/main.ts";
import type { Handler } from "./connection.ts";
import type { Tunnel } from "./tunnel.ts";

export type SimHub = ReturnType<typeof buildHub>;

const NO_LOG = { info: () => {}, warn: () => {}, error: () => {} };

/** The product's whole hub, but for its port. */
export function startSimHub(dataDir: string): SimHub {
  return buildHub({ port: 0, dataDir, log: NO_LOG, allowLocalhostLinks: false });
}

/** Its routes; `onEpoch` hears of each registration's answer. */
export function hubHandler(hub: SimHub, onEpoch: (epoch: number) => void): Handler {
  return async (request) => {
    const response = await hub.app.fetch(request);
    if (request.method === "POST" && response.status === 201) {
      onEpoch(z.object({ epoch: z.int() }).parse(await response.clone().json()).epoch);
    }
    return response;
  };
}

/** Gives a tunnel's handshake to the relay, as the port would. */
export function takeTunnel(
  hub: SimHub,
  tunnel: Tunnel,
  headers: Readonly<Record<string, string>>,
): void {
  const url = "/api/links/tunnel";
  const request: unknown = { url, headers: { host: "127.0.0.1:4000", ...headers } };
  const socket: unknown = { tunnel, destroyed: false };
  // Of both, the relay uses nothing else; the socket goes to the simulated end of the upgrade.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- see above
  hub.relay.onUpgrade(request as IncomingMessage, socket as Duplex, Buffer.alloc(0));
}
