import { readHubKeys } from "../hub/keys.ts";
import { DecoError } from "../protocol/errors.ts";
import type { Command } from "./command.ts";

export interface HubTokenFlags {
  readonly data: string;
  readonly user: string;
  readonly ttl: string;
  readonly login?: boolean;
}

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };
const MAX_TTL_SECONDS = 3650 * 86_400;

/** `deco hub token`: offline; whoever can read the hub's data directory may make one. */
export function hubToken(flags: HubTokenFlags): Command {
  return async ({ out }) => {
    const ttlSeconds = parseTtl(flags.ttl);
    const keys = readHubKeys(flags.data);
    if (flags.login) {
      const code = keys.loginCode(flags.user);
      out.result({ code, user: flags.user, expiresInSeconds: 60 }, () => code);
      return 0;
    }
    const token = await keys.userToken({ user: flags.user, ttlSeconds });
    out.result({ token, user: flags.user, expiresInSeconds: ttlSeconds }, () => token);
    return 0;
  };
}

/** Seconds of `45s`, `30m`, `12h`, `30d`. @throws DecoError `usage`. */
export function parseTtl(text: string): number {
  const match = /^(\d{1,9})([smhd])$/.exec(text);
  const seconds = Number(match?.[1]) * (UNIT_SECONDS[match?.[2] ?? ""] ?? Number.NaN);
  if (seconds >= 1 && seconds <= MAX_TTL_SECONDS) return seconds;
  throw new DecoError("usage", `--ttl ${text} is no time`, {
    fix: "Give a number and s, m, h or d, such as 12h or 30d; 3650d at most.",
  });
}
