import type Dockerode from "dockerode";
import { DecoError } from "../../../../protocol/errors.ts";

/** One engine, as dockerode takes it and as messages name it (a socket's path, or an address). */
export interface EngineTarget {
  readonly options: Dockerode.DockerOptions;
  readonly address: string;
}

/** PEM files of an engine behind TLS; Docker's own `ca.pem`, `cert.pem`, `key.pem`. */
export interface EngineTls {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

/** Empty host, and a protocol: without them dockerode takes others out of the environment. */
export const socketTarget = (path: string): EngineTarget => ({
  options: { socketPath: path, host: "", protocol: "http" },
  address: path,
});

/**
 * @param host as in DOCKER_HOST: `unix://`, `npipe://`, `tcp://`, `http(s)://`
 * @param o.from what named it, for the refusal; `fix`: how to name another one there
 * @throws docker_unavailable for an engine on another machine: its mounts would not be ours
 */
export function targetOf(
  host: string,
  o: { from: string; fix: string; tls?: EngineTls | undefined },
): EngineTarget {
  const socket = /^(?:unix|npipe):\/\/(.+)$/.exec(host)?.[1];
  if (socket !== undefined) return socketTarget(socket);
  const url = URL.canParse(host) ? new URL(host) : undefined;
  if (!url?.hostname) {
    const detail = `${host} (${o.from}) is no address of an engine`;
    throw new DecoError("docker_unavailable", detail, { fix: o.fix });
  }
  const local = LOOPBACK.includes(url.hostname);
  if (!local || !/^(tcp|https?):$/.test(url.protocol)) {
    const detail = `the engine at ${withoutPassword(url, host)} (${o.from}) is not on this machine`;
    throw new DecoError("docker_unavailable", detail, { fix: o.fix });
  }
  const secure = o.tls !== undefined || url.protocol === "https:" || url.port === "2376";
  return {
    options: {
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port || "2375",
      protocol: secure ? "https" : "http",
      ...o.tls,
    },
    address: withoutPassword(url, host),
  };
}

function withoutPassword(url: URL, host: string): string {
  if (url.password === "") return host;
  const bare = new URL(url);
  bare.password = "";
  return bare.href;
}
