import { DecoError } from "../../src/protocol/errors.ts";
import { parseSigningKey } from "../../src/protocol/keys.ts";
import type { Registered } from "../../src/protocol/messages.ts";
import type { NonceCache } from "../../src/protocol/nonces.ts";
import { checkRequest, digestMatches, signResponse } from "../../src/protocol/signature.ts";

type Session = Pick<Registered, "linkId" | "epoch" | "signingKey">;

/** The JSON of a request that the hub has signed; throws as a daemon would refuse it. */
export async function verified(
  { linkId, epoch, signingKey }: Session,
  nonces: NonceCache,
  request: Request,
): Promise<unknown> {
  const { pathname, search } = new URL(request.url);
  const checked = checkRequest({
    key: parseSigningKey(signingKey),
    linkId,
    epoch,
    method: request.method,
    path: pathname,
    query: search,
    headers: (name) => request.headers.get(name) ?? undefined,
    now: Date.now(),
  });
  const bytes = new Uint8Array(await request.arrayBuffer());
  if (checked.body.type !== "digest") throw new DecoError("signature_invalid", "streamed");
  const { sha256 } = checked.body;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  if (!digestMatches(sha256, hash)) throw new DecoError("digest_mismatch", "another body");
  if (!nonces.record(checked.nonce, checked.expiresAt)) {
    throw new DecoError("nonce_replayed", "seen");
  }
  return bytes.length === 0 ? undefined : (JSON.parse(new TextDecoder().decode(bytes)) as unknown);
}

/** The same answer, signed for the request that it answers. */
export async function signedAnswer(
  { linkId, signingKey }: Session,
  answer: Response,
  requestSignature: string,
): Promise<Response> {
  const body = new Uint8Array(await answer.arrayBuffer());
  const { status } = answer;
  const key = parseSigningKey(signingKey);
  const signed = signResponse({ key, linkId, status, body, requestSignature, now: Date.now() });
  const headers = { ...Object.fromEntries(answer.headers), ...signed };
  return new Response(body, { status, headers });
}
