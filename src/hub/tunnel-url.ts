import { DecoError } from "../protocol/errors.ts";

/**
 * A link's own address, which may only be on this machine: `http://localhost`, `127.0.0.1` or
 * `[::1]` with a port, nothing else in it.
 *
 * @returns The origin.
 * @throws DecoError localhost_links_disabled, invalid_request
 */
export function checkTunnelUrl(text: string | undefined, allowed: boolean): string | undefined {
  if (text === undefined) return undefined;
  if (!allowed) throw new DecoError("localhost_links_disabled", "tunnelUrl is not taken here");
  const match = /^http:\/\/(localhost|127\.0\.0\.1|\[::1\]):([0-9]{1,5})\/?$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port < 1 || port > 65_535) {
    throw new DecoError(
      "invalid_request",
      "tunnelUrl must be http://localhost, 127.0.0.1 or [::1] and a port",
    );
  }
  return `http://${match[1]}:${port}`;
}
