import type { UpstreamName } from "./routes.ts";

/** One model service, from the laptop's own configuration and from nowhere else. */
export interface ModelUpstream {
  /** With or without `/v1` at its end. */
  readonly baseUrl: string;
  /** Absent for a service that asks for none. */
  readonly apiKey?: string;
  /** Where the key goes; `authorization` means Bearer. Anthropic's default is `x-api-key`. */
  readonly authHeader?: "x-api-key" | "authorization";
}

export type ModelUpstreams = Readonly<Partial<Record<UpstreamName, ModelUpstream>>>;

/** The address of a listed path at a service: nothing of it but the query comes from inside. */
export function upstreamUrl(upstream: ModelUpstream, path: string, query: string): string {
  const url = new URL(upstream.baseUrl);
  const prefix = url.pathname.replace(/\/+$/, "").replace(/\/v1$/, "");
  return `${url.origin}${prefix}${path}${query}`;
}

/** The header that opens a service. */
export function authorization(
  name: UpstreamName,
  { apiKey, authHeader }: ModelUpstream,
): Record<string, string> {
  if (apiKey === undefined) return {};
  const header = authHeader ?? (name === "anthropic" ? "x-api-key" : "authorization");
  return { [header]: header === "authorization" ? `Bearer ${apiKey}` : apiKey };
}
