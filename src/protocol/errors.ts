/** What one code means, whoever raises it. */
export interface ErrorInfo {
  /** HTTP status used when this error leaves through a route. */
  readonly status: number;
  /** Short, constant summary (RFC 9457 `title`). */
  readonly title: string;
  /** Whether the same call may succeed later without a change by the user. */
  readonly retryable: boolean;
  /** What the user can do about it, as an imperative sentence. */
  readonly fix: string;
  /** Exit code of a command that ends with this error; 1 when absent. */
  readonly exit?: number;
}

/**
 * Every code that may cross a process boundary. Codes are never renamed or reused.
 *
 * @see PROTOCOL.md, section "Errors"
 */
export const ERRORS = {
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

  // Dispatch
  link_not_found: e(404, "No such link", "List the links with `deco status` or GET /api/links/me."),
  link_offline: e(409, "The link is offline", "Run `deco link` on the laptop.", {
    retryable: true,
    exit: 5,
  }),
  link_busy: e(
    409,
    "The link runs as many runs as it may",
    "Wait for a run to end, or raise --max-runs.",
    { retryable: true, exit: 9 },
  ),
  capability_missing: e(
    409,
    "No link offers this",
    "Run `deco doctor` on the laptop for what is missing.",
    { exit: 7 },
  ),
  policy_denied: e(
    409,
    "The laptop's owner does not allow this",
    "See `deco policy show` on the laptop.",
    { exit: 6 },
  ),
  isolation_unavailable: e(
    409,
    "This isolation can't be had here",
    "Ask for a provider, tier and workspace that the link offers.",
    { exit: 7 },
  ),
  thread_pinned: e(
    409,
    "The thread is pinned to something else",
    "Leave the field out, or start a new thread.",
    { exit: 9 },
  ),
  thread_not_found: e(404, "No such thread", "Start one with the first run's `thread`."),
  run_not_found: e(404, "No such run", "List the runs with `deco runs ls`."),
  run_conflict: e(409, "This run exists with another body", "Use a new runId.", { exit: 9 }),
  attempt_stale: e(409, "A higher attempt of this run exists", "Use the newest attempt.", {
    exit: 9,
  }),
  run_not_waiting: e(409, "The run waits for nothing", "Look at its state first.", { exit: 9 }),
  seq_ahead: e(409, "No event has that number yet", "Resume behind an event that you have."),
  events_truncated: e(
    410,
    "Those events were acknowledged and removed",
    "Resume from firstSeq, or ask the hub.",
  ),
  chain_mismatch: e(
    409,
    "The chain of hashes differs",
    "Drop what was not agreed and pull again.",
    { retryable: true },
  ),

  // Signatures (CONTRACT: the order in which they are checked)
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

  // Sandboxes
  sandbox_not_found: e(404, "No such sandbox", "List them with `deco sandbox ls`."),
  sandbox_busy: e(
    409,
    "A run is active in this sandbox",
    "Cancel it, or delete with ?force=true.",
    { exit: 9 },
  ),
  sandbox_failed: e(
    502,
    "The sandbox did not become ready",
    "See its log with `deco sandbox logs`.",
  ),
  sandbox_lost: e(502, "The sandbox is gone", "Start the run again.", { retryable: true }),
  docker_unavailable: e(503, "The Docker engine does not answer", "Start Docker, then try again.", {
    retryable: true,
    exit: 7,
  }),
  image_missing: e(409, "The image is not on this machine", "Run `deco image build`.", { exit: 7 }),
  unconfined_refused: e(
    409,
    "Nothing here can confine a process",
    "Install Docker, or allow it with --allow-unconfined.",
    { exit: 7 },
  ),
  port_unreachable: e(
    502,
    "Nothing listens on that port in the sandbox",
    "Start a server there first.",
    { retryable: true },
  ),

  // Harnesses
  harness_unreachable: e(502, "harnessd does not answer", "See `deco sandbox logs`.", {
    retryable: true,
  }),
  harness_failed: e(502, "The harness failed", "See the run's events for its own words."),
  harness_restarted: e(502, "harnessd restarted during the run", "Start the run again.", {
    retryable: true,
  }),
  harness_missing: e(409, "The harness is not in this sandbox's image", "Run `deco image build`.", {
    exit: 7,
  }),
  model_failed: e(
    502,
    "The model's service failed",
    "Try again; check the model settings with `deco doctor`.",
    { retryable: true },
  ),
  model_budget: e(429, "The run's model budget is used up", "Raise the limits in config.json."),
  model_refused: e(
    403,
    "The model proxy does not forward this",
    "Use the paths that PROTOCOL.md lists.",
  ),
  model_unconfigured: e(
    503,
    "No key for this model on the laptop",
    "Set ANTHROPIC_API_KEY or OPENAI_API_KEY for the daemon.",
  ),
  budget_exceeded: e(409, "The run took longer than allowed", "Raise options.timeoutSeconds.", {
    exit: 8,
  }),

  // The laptop
  not_running: e(503, "No daemon runs here", "Start one with `deco up` or `deco link`.", {
    exit: 3,
  }),
  already_running: e(
    409,
    "A daemon runs on this home already",
    "Use it (`deco status`), or set another DECO_HOME.",
    { exit: 9 },
  ),
  not_enrolled: e(401, "This laptop is not enrolled", "Run `deco login`, then `deco link`.", {
    exit: 4,
  }),
  port_in_use: e(409, "The port is taken", "Use --port 0 for any free one.", { exit: 9 }),
  draining: e(503, "The daemon is leaving", "Try again when it is back.", { retryable: true }),
  journal_full: e(503, "The journal is full", "Free disk, or let the hub catch up.", {
    retryable: true,
  }),
  storage_failed: e(503, "The disk refused a write", "Free disk space and check its permissions.", {
    retryable: true,
  }),
  timeout: e(504, "It took too long", "Try again; `deco doctor` names what is slow.", {
    retryable: true,
    exit: 8,
  }),
  usage: e(400, "Wrong usage", "See `deco help`.", { exit: 2 }),
} as const satisfies Record<string, ErrorInfo>;

/** A member of the closed table of codes. */
export type ErrorCode = keyof typeof ERRORS;

/** Which part of the path a run failed on. */
export type Leg = "hub" | "tunnel" | "daemon" | "sandbox" | "harness";

/** RFC 9457 problem document, plus `code` and `fix`. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly fix: string;
  readonly [extension: string]: unknown;
}

/** What a {@link DecoError} may carry besides code and detail. */
export interface DecoErrorOptions extends ErrorOptions {
  /** Replaces the table's fix by one that fits this case better. */
  readonly fix?: string;
  /** Further members of the problem document, such as `activeCapabilities`. */
  readonly extensions?: Readonly<Record<string, unknown>>;
}

/** The only error class that leaves a module. Switch on {@link DecoError.code}, never on text. */
export class DecoError extends Error {
  override readonly name = "DecoError";
  readonly code: ErrorCode;
  readonly fix: string;
  readonly extensions: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, detail: string, options: DecoErrorOptions = {}) {
    super(detail, options);
    this.code = code;
    this.fix = options.fix ?? ERRORS[code].fix;
    this.extensions = options.extensions ?? {};
  }

  get info(): ErrorInfo {
    return ERRORS[this.code];
  }

  /** Wraps whatever was thrown; a DecoError passes through unchanged. */
  static from(thrown: unknown, code: ErrorCode = "internal"): DecoError {
    if (thrown instanceof DecoError) return thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new DecoError(code, message, { cause: thrown });
  }

  /** Reads a problem document that a peer sent; an unknown code becomes `fallback`. */
  static fromProblem(value: unknown, fallback: ErrorCode = "internal"): DecoError {
    const problem = isRecord(value) ? value : {};
    const {
      type: _type,
      title: _title,
      status: _status,
      code,
      detail,
      fix,
      ...extensions
    } = problem;
    const known = typeof code === "string" && Object.hasOwn(ERRORS, code);
    return new DecoError(
      known ? (code as ErrorCode) : fallback,
      typeof detail === "string" ? detail : "the peer gave no detail",
      { extensions, ...(typeof fix === "string" ? { fix } : {}) },
    );
  }

  /** The problem document of this error (`application/problem+json`). */
  toProblem(): Problem {
    const { status, title } = this.info;
    const type = `urn:deco-link:error:${this.code}`;
    return {
      ...this.extensions,
      type,
      title,
      status,
      code: this.code,
      detail: this.message,
      fix: this.fix,
    };
  }
}

function e(
  status: number,
  title: string,
  fix: string,
  more: { retryable?: boolean; exit?: number } = {},
): ErrorInfo {
  return {
    status,
    title,
    fix,
    retryable: more.retryable ?? false,
    ...(more.exit === undefined ? {} : { exit: more.exit }),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
