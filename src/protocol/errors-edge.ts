import { type ErrorInfo, errorInfo as e } from "./error-info.ts";

/** Codes of requests, users, links, signatures and the tunnel. */
export const EDGE_ERRORS = {
  // Requests
  invalid_request: e(
    400,
    "The request does not fit its schema",
    "Compare the body with /openapi.json.",
  ),
  invalid_json: e(400, "The body is not JSON", "Send one JSON object."),
  invalid_handle: e(400, "Not a sandbox handle", "Use 1 to 63 characters of a-z, 0-9 and -."),
  unknown_harness: e(400, "No such harness", "Use shell, claude-code, codex, decopilot or acp."),
  unsupported_media_type: e(415, "Wrong content type", "Send content-type: application/json."),
  body_too_large: e(413, "The body is over the limit", "Send less, or use a stream route."),
  not_found: e(404, "No such path", "See /openapi.json for the paths."),
  method_not_allowed: e(405, "No such method here", "See /openapi.json for the methods."),
  misdirected_request: e(421, "Unknown Host", "Use localhost, 127.0.0.1, [::1] or the public URL."),
  origin_refused: e(403, "A foreign page may not do this", "Open the page that this hub serves."),
  idempotency_key_reused: e(422, "This Idempotency-Key came with another body", "Use a new key."),
  rate_limited: e(429, "Too many requests", "Wait as long as Retry-After says.", {
    retryable: true,
  }),
  internal: e(500, "Internal error", "Run `deco doctor` and report it with the log."),
  unavailable: e(503, "Not ready", "Try again in a moment.", { retryable: true }),

  // Users and links
  unauthorized: e(401, "No valid user token", "Run `deco login`, or set DECO_TOKEN.", { exit: 4 }),
  sign_in_code_invalid: e(401, "The code is used up or expired", "Run `deco hub token --login`.", {
    exit: 4,
  }),
  authorization_pending: e(400, "Not yet approved", "Approve the code on the page.", {
    retryable: true,
  }),
  slow_down: e(400, "Polled too fast", "Poll less often.", { retryable: true }),
  expired_token: e(400, "The device code expired", "Run `deco login` again.", { exit: 4 }),
  access_denied: e(400, "The sign-in was denied", "Run `deco login` again and approve it.", {
    exit: 4,
  }),
  bad_proof: e(
    401,
    "The proof of the laptop's key is not valid",
    "Check the clock and the hub's address.",
    { exit: 4 },
  ),
  identity_changed: e(
    409,
    "Another key holds this machine id",
    "Restore the key, or delete machine.json to enrol anew.",
    { exit: 4 },
  ),
  upgrade_required: e(
    426,
    "Protocol out of range",
    "Update deco link: npm i -g deco-link@latest.",
    { exit: 4 },
  ),
  localhost_links_disabled: e(
    409,
    "This hub takes no localhost links",
    "Start the hub with DECO_ALLOW_LOCALHOST_LINKS=1.",
    { exit: 4 },
  ),
  unknown_link: e(401, "The hub does not know this link", "The daemon registers again by itself.", {
    retryable: true,
    exit: 4,
  }),
  bad_secret: e(401, "Not a secret of this hub", "The daemon registers again by itself.", {
    retryable: true,
    exit: 4,
  }),
  secret_expired: e(401, "The secret expired", "The daemon registers again by itself.", {
    retryable: true,
    exit: 4,
  }),
  superseded: e(
    401,
    "A newer daemon with this identity took over",
    "Stop the other one, or enrol this one with a home of its own.",
    { exit: 9 },
  ),
  revoked: e(401, "This link was revoked", "Run `deco login`, then `deco link` to enrol again.", {
    exit: 4,
  }),

  // Signatures, in the order in which they are checked
  signature_missing: e(401, "The request is not signed", "Sign it as PROTOCOL.md says."),
  signature_invalid: e(401, "The signature is not valid", "Sign it as PROTOCOL.md says."),
  wrong_link: e(401, "Signed for another link", "Use this link's id and key."),
  wrong_epoch: e(401, "Signed for another epoch", "Use the newest epoch and its key."),
  signature_expired: e(
    401,
    "Signed at another time",
    "Sign with the hub's time, for 60 s at most.",
  ),
  digest_mismatch: e(
    401,
    "The body is not the one that was signed",
    "Send the bytes that were hashed.",
  ),
  nonce_replayed: e(
    401,
    "This signature was used already",
    "Sign each request with a fresh nonce.",
  ),
  answer_unsigned: e(
    502,
    "The daemon's answer is not rightly signed",
    "Check what stands between hub and laptop.",
  ),

  // Tunnel
  tunnel_lost: e(502, "The tunnel broke", "The daemon dials again by itself.", {
    retryable: true,
    exit: 5,
  }),
  tunnel_refused: e(502, "The tunnel's stream was refused", "Try again in a moment.", {
    retryable: true,
    exit: 5,
  }),
  hub_unreachable: e(503, "The hub does not answer", "Check --hub and the network.", {
    retryable: true,
    exit: 5,
  }),
} as const satisfies Record<string, ErrorInfo>;
