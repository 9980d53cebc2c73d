import { randomBytes, randomInt } from "node:crypto";
import { DecoError } from "../protocol/errors.ts";
import { toBase64Url } from "../protocol/keys.ts";
import { Attempts } from "./attempts.ts";
import { hash } from "./auth.ts";
import type { HubKeys } from "./keys.ts";
import type { Store } from "./store/open-store.ts";

const CODE_TTL_MS = 10 * 60_000;
const TOKEN_TTL_SECONDS = 30 * 24 * 3600;
/** No vowels and nothing that looks like something else: RFC 8628, 6.1. */
const LETTERS = "BCDFGHJKLMNPQRSTVWXZ";

export interface DeviceFlowOptions {
  readonly store: Store;
  readonly keys: HubKeys;
  readonly now: () => number;
  /** Least time between two polls, in ms. */
  readonly intervalMs?: number | undefined;
}

/** Sign-in of a program without a browser. @see RFC 8628 */
export type DeviceFlow = ReturnType<typeof deviceFlow>;

export function deviceFlow({ store, keys, now, intervalMs = 5000 }: DeviceFlowOptions) {
  const attempts = new Attempts({ max: 10, windowMs: 5 * 60_000, now });
  return {
    start(origin: string) {
      const deviceCode = toBase64Url(randomBytes(32));
      const userCode = newUserCode();
      store.signIn.removeExpired(now());
      store.signIn.putDevice(hash(deviceCode), {
        userCode,
        user: undefined,
        state: "pending",
        intervalMs,
        polledAt: 0,
        expiresAt: now() + CODE_TTL_MS,
      });
      return {
        device_code: deviceCode,
        user_code: userCode,
        verification_uri: `${origin}/device`,
        verification_uri_complete: `${origin}/device?user_code=${userCode}`,
        expires_in: CODE_TTL_MS / 1000,
        interval: Math.ceil(intervalMs / 1000),
      };
    },

    /** @throws DecoError authorization_pending, slow_down, expired_token, access_denied */
    async token(deviceCode: string) {
      const user = store.transaction(() => poll(hash(deviceCode)));
      if (user instanceof DecoError) throw user;
      const token = await keys.userToken({ user, ttlSeconds: TOKEN_TTL_SECONDS });
      return { access_token: token, token_type: "Bearer", expires_in: TOKEN_TTL_SECONDS };
    },

    /** @throws DecoError invalid_request for an unknown code; rate_limited for a guesser. */
    decide(o: { user: string; userCode: string; approve: boolean }): void {
      attempts.check(o.user);
      const letters = o.userCode.toUpperCase().replace(/[^A-Z]/g, "");
      const userCode = `${letters.slice(0, 4)}-${letters.slice(4)}`;
      if (store.signIn.decide(userCode, o.user, o.approve, now())) return;
      attempts.failed(o.user);
      throw new DecoError("invalid_request", "no such code waits for approval", {
        fix: "Look at the terminal for the code, or run `deco login` again.",
      });
    },
  };

  /** The approving user, or why not yet; returned, since a throw would take the writes back. */
  function poll(deviceHash: string): string | DecoError {
    const code = store.signIn.device(deviceHash);
    if (code === undefined || code.expiresAt <= now()) {
      return new DecoError("expired_token", "the device code is unknown, used up or expired");
    }
    const early = now() - code.polledAt < code.intervalMs;
    // RFC 8628, 3.5: the interval grows by 5 s with each slow_down.
    const interval = early ? code.intervalMs + 5000 : code.intervalMs;
    store.signIn.putDevice(deviceHash, { ...code, polledAt: now(), intervalMs: interval });
    if (early) return new DecoError("slow_down", `poll every ${interval / 1000} s`);
    if (code.state === "pending") return new DecoError("authorization_pending", "not approved yet");
    store.signIn.removeDevice(deviceHash);
    if (code.state === "denied" || code.user === undefined) {
      return new DecoError("access_denied", "the sign-in was denied");
    }
    return code.user;
  }
}

function newUserCode(): string {
  const letters = Array.from({ length: 8 }, () => LETTERS[randomInt(LETTERS.length)]);
  return `${letters.slice(0, 4).join("")}-${letters.slice(4).join("")}`;
}
