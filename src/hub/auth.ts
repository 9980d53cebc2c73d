import { createHash, randomBytes } from "node:crypto";
import { DecoError } from "../protocol/errors.ts";
import { toBase64Url } from "../protocol/keys.ts";
import type { Guard } from "./guard.ts";
import type { HubKeys } from "./keys.ts";
import type { Store } from "./store/open-store.ts";

export const SESSION_COOKIE = "deco_session";
const SESSION_TTL_MS = 30 * 24 * 3600_000;

export interface AuthOptions {
  readonly store: Store;
  readonly keys: HubKeys;
  readonly guard: Guard;
  readonly now: () => number;
  /** The page is served over https: the cookie never travels without. */
  readonly secure: boolean;
}

/** Who asks. A Bearer token stands for itself; a cookie also has to come from our own page. */
export type Auth = ReturnType<typeof auth>;

export function auth({ store, keys, guard, now, secure }: AuthOptions) {
  function sessionUser(request: Pick<Request, "headers">): string | undefined {
    const value = cookie(request.headers.get("cookie") ?? "", SESSION_COOKIE);
    return value === undefined ? undefined : store.signIn.sessionUser(hash(value), now());
  }

  return {
    sessionUser,

    /** @throws DecoError unauthorized, origin_refused, unsupported_media_type */
    async user(request: Request): Promise<string> {
      const header = request.headers.get("authorization");
      if (header !== null) {
        const token = /^Bearer +([^\s]+)$/i.exec(header)?.[1];
        if (token === undefined)
          throw new DecoError("unauthorized", "Authorization is not a Bearer token");
        return (await keys.readUserToken(token)).user;
      }
      const user = sessionUser(request);
      if (user === undefined) throw new DecoError("unauthorized", "neither a token nor a session");
      guard.checkPage(request);
      return user;
    },

    /** @throws DecoError unauthorized, origin_refused, unsupported_media_type: no token will do. */
    pageUser(request: Request): string {
      const user = sessionUser(request);
      if (user === undefined) throw new DecoError("unauthorized", "not signed in to the page");
      guard.checkPage(request);
      return user;
    },

    /** @returns The value of `Set-Cookie`. */
    openSession(user: string): string {
      const value = toBase64Url(randomBytes(32));
      store.signIn.putSession(hash(value), user, now() + SESSION_TTL_MS);
      return cookieText(value, SESSION_TTL_MS / 1000, secure);
    },

    closeSession(request: Request): string {
      const value = cookie(request.headers.get("cookie") ?? "", SESSION_COOKIE);
      if (value !== undefined) store.signIn.removeSession(hash(value));
      return cookieText("", 0, secure);
    },
  };
}

function cookieText(value: string, maxAgeSeconds: number, secure: boolean): string {
  const base = `${SESSION_COOKIE}=${value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${maxAgeSeconds}`;
  return secure ? `${base}; Secure` : base;
}

function cookie(header: string, name: string): string | undefined {
  const pair = header.split(";").find((part) => part.trim().startsWith(`${name}=`));
  const value = pair?.trim().slice(name.length + 1);
  return value === "" ? undefined : value;
}

/** What is stored of a secret that the hub only has to recognise. */
export function hash(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}
