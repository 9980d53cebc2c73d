import { createHash } from "node:crypto";
import { rawTarget } from "../../net/raw-target.ts";
import { DecoError } from "../../protocol/errors.ts";
import type { NonceCache } from "../../protocol/nonces.ts";
import {
  type CheckedSignature,
  checkRequest,
  digestMatches,
  signResponse,
} from "../../protocol/signature.ts";
import { MAX_BODY_BYTES, problemResponse } from "./answers.ts";
import type { ControlEnv, ControlFetch } from "./control-env.ts";

/** The session whose signatures count. A new registration brings a new one; the old die at once. */
export interface SigningSession {
  readonly linkId: string;
  readonly epoch: number;
  /** 32 bytes. */
  readonly key: Uint8Array;
  readonly nonces: Pick<NonceCache, "record">;
}

export interface SignedOptions {
  readonly app: ControlFetch;
  /** Undefined while the laptop is not registered: then every request is refused. */
  readonly session: () => SigningSession | undefined;
  /** The hub's time, in ms. */
  readonly now: () => number;
  readonly maxBodyBytes?: number;
}

/**
 * Puts signatures before and after an app. Checked in this order: headers, MAC (before a byte of the
 * body is read), size while hashing, digest, nonce. Answers that are no streams are signed, errors
 * too once the request's signature was good. `/healthz` alone is open.
 *
 * @see PROTOCOL.md, section "Signature"; RFC 9421
 */
export function signed(options: SignedOptions): ControlFetch {
  return {
    async fetch(request, env) {
      const url = new URL(request.url);
      if (url.pathname === "/healthz") return options.app.fetch(request, env);
      const session = options.session() ?? NOBODY;
      let checked: CheckedSignature;
      try {
        checked = check(
          request,
          env?.target ?? `${url.pathname}${url.search}`,
          session,
          options.now(),
        );
      } catch (thrown) {
        return problemResponse(DecoError.from(thrown));
      }
      let streaming = false;
      const markStream = () => {
        streaming = true;
      };
      const answer = await passOn(options, session, checked, request, {
        ...env,
        signed: true,
        markStream,
      });
      if (streaming) return answer;
      return signedAnswer(session, request, answer, options.now());
    },
  };
}

/** Stands in for a session that is not there, so that refusals keep their order. */
const NOBODY: SigningSession = {
  linkId: "-",
  epoch: 0,
  key: crypto.getRandomValues(new Uint8Array(32)),
  nonces: { record: () => false },
};

function check(
  request: Request,
  target: string,
  { key, linkId, epoch }: SigningSession,
  now: number,
): CheckedSignature {
  return checkRequest({
    key,
    linkId,
    epoch,
    method: request.method,
    ...rawTarget(target),
    headers: (name) => request.headers.get(name) ?? undefined,
    now,
  });
}

async function passOn(
  { app, maxBodyBytes = MAX_BODY_BYTES }: SignedOptions,
  session: SigningSession,
  checked: CheckedSignature,
  request: Request,
  env: ControlEnv,
): Promise<Response> {
  try {
    if (checked.body.type === "stream") {
      recordNonce(session, checked);
      return await app.fetch(request, env);
    }
    const body = await hashedBody(request, checked.body.sha256, maxBodyBytes);
    recordNonce(session, checked);
    return await app.fetch(withBody(request, body), env);
  } catch (thrown) {
    return problemResponse(DecoError.from(thrown));
  }
}

function recordNonce({ nonces }: SigningSession, { nonce, expiresAt }: CheckedSignature): void {
  if (!nonces.record(nonce, expiresAt)) {
    throw new DecoError("nonce_replayed", "a request with this nonce came before");
  }
}

/** The whole body, counted and hashed as it comes in. */
async function hashedBody(request: Request, sha256: Uint8Array, maxBytes: number) {
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) throw tooLarge(maxBytes);
  const hash = createHash("sha256");
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge(maxBytes);
    hash.update(chunk);
    chunks.push(chunk);
  }
  if (!digestMatches(sha256, hash.digest())) {
    throw new DecoError("digest_mismatch", "the body does not have the digest that was signed");
  }
  return Buffer.concat(chunks, size);
}

function tooLarge(maxBytes: number): DecoError {
  return new DecoError("body_too_large", `the body is over ${maxBytes} bytes`);
}

/**
 * The request with its body read. One that never had a body stays itself: undici ties the signal of
 * a copy to the original's only weakly, and an event stream outlives its request's handler.
 */
function withBody(request: Request, body: Buffer): Request {
  if (request.body === null) return request;
  const { method, headers, signal, url } = request;
  const bodyless = method === "GET" || method === "HEAD" || body.length === 0;
  return new Request(url, { method, headers, signal, ...(bodyless ? {} : { body }) });
}

async function signedAnswer(
  { key, linkId }: SigningSession,
  request: Request,
  answer: Response,
  now: number,
): Promise<Response> {
  const body = new Uint8Array(await answer.arrayBuffer());
  const headers = new Headers(answer.headers);
  const fields = signResponse({
    key,
    linkId,
    status: answer.status,
    body,
    requestSignature: request.headers.get("signature") ?? "",
    now,
  });
  for (const [name, value] of Object.entries(fields)) headers.set(name, value);
  const empty = answer.status === 204 || answer.status === 304;
  return new Response(empty ? null : body, { status: answer.status, headers });
}
