import { z } from "zod";
import { httpRequest } from "../../src/net/http-request.ts";

const Body = z.record(z.string(), z.unknown());

export interface Call {
  readonly method?: string;
  readonly path: string;
  readonly token?: string;
  readonly secret?: string;
  readonly cookie?: string;
  readonly body?: unknown;
  /** Instead of `body`: as it is, with no content type of its own. */
  readonly raw?: string;
  readonly headers?: Record<string, string>;
}

/** One request over a real socket, with full say over its headers (Host, Origin, Cookie). */
export async function call(hub: string, o: Call) {
  const headers: Record<string, string> = { ...o.headers };
  if (o.token !== undefined) headers["authorization"] = `Bearer ${o.token}`;
  if (o.secret !== undefined) headers["x-link-secret"] = o.secret;
  if (o.cookie !== undefined) headers["cookie"] = o.cookie;
  if (o.body !== undefined) headers["content-type"] ??= "application/json";
  const sent = o.raw ?? (o.body === undefined ? undefined : JSON.stringify(o.body));
  const answer = await httpRequest({
    url: hub,
    method: o.method ?? "GET",
    path: o.path,
    headers,
    body: sent,
    signal: AbortSignal.timeout(10_000),
  });
  const text = await answer.text();
  const json = /json/.test(answer.headers.get("content-type") ?? "");
  const body = Body.parse(json ? JSON.parse(text) : {});
  return { status: answer.status, headers: answer.headers, body, text };
}
