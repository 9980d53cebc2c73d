// Stands for src/net/http-request.ts: requests go through the simulated network.
import type { HttpAnswer, HttpRequestOptions } from "../../../src/net/http-request.ts";
import { theWorld } from "../core/current.ts";
import { machineOf } from "../nodes/machine.ts";

export function httpRequest(options: HttpRequestOptions): Promise<HttpAnswer> {
  options.signal.throwIfAborted();
  return machineOf(theWorld().current).net.http(options);
}
