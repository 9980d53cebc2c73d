import { type ErrorInfo, errorInfo as e } from "./error-info.ts";

/** Codes of dispatch, sandboxes, harnesses and the laptop. */
export const RUN_ERRORS = {
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
  policy_denied: e(409, "The laptop's owner does not allow this", "Ask the laptop's owner.", {
    exit: 6,
  }),
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
    "Remove it with `deco sandbox rm`; the next run makes a new one.",
  ),
  sandbox_lost: e(502, "The sandbox is gone", "Start the run again.", { retryable: true }),
  docker_unavailable: e(503, "The Docker engine does not answer", "Start Docker, then try again.", {
    retryable: true,
    exit: 7,
  }),
  image_missing: e(409, "The image is not on this machine", "Run `deco image build`.", { exit: 7 }),
  config_missing: e(
    409,
    "A file that the sandbox needs is missing",
    "Add it to the template's files.",
    { exit: 7 },
  ),
  out_of_memory: e(
    502,
    "The sandbox ran out of memory",
    "Give it more: sandbox.resources.memoryMib, or `resources` of its template.",
  ),
  prune_too_much: e(
    409,
    "More than half would be removed",
    "Look at `deco sandbox prune` first, then add --force.",
    { exit: 9 },
  ),
  unconfined_refused: e(
    409,
    "Nothing here can confine a process",
    "Install Docker, or allow it with --allow-unconfined.",
    { exit: 7 },
  ),
  archive_invalid: e(
    400,
    "The archive is not one that may be unpacked",
    "Send a tar whose members and links all stay below its folder.",
  ),
  workspace_failed: e(
    502,
    "The files did not get into the workspace",
    "See the detail; then start the run again.",
  ),
  file_not_found: e(404, "No such file in the sandbox", "Look at what the run wrote, by its log."),
  port_unreachable: e(
    502,
    "Nothing listens on that port in the sandbox",
    "Start a server there first.",
    { retryable: true },
  ),

  // Harnesses
  harness_unreachable: e(
    502,
    "harnessd does not answer",
    "Try again; if it stays, remove the sandbox with `deco sandbox rm`.",
    {
      retryable: true,
    },
  ),
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
  storage_failed: e(
    503,
    "A file can't be read or written",
    "Free disk space and check its permissions.",
    {
      retryable: true,
    },
  ),
  timeout: e(504, "It took too long", "Try again; `deco doctor` names what is slow.", {
    retryable: true,
    exit: 8,
  }),
  usage: e(400, "Wrong usage", "See `deco help`.", { exit: 2 }),
} as const satisfies Record<string, ErrorInfo>;
