import { z } from "zod";
import { RunStatus } from "./run-events.ts";

/** The protocol version that this build speaks, and the range that it accepts. */
export const PROTOCOL = { version: 1, min: 1, max: 1 } as const;

export const HARNESSES = ["shell", "claude-code", "codex", "decopilot", "acp"] as const;
export type HarnessName = (typeof HARNESSES)[number];

export const PROVIDERS = ["docker", "virtualbox", "process"] as const;
export type ProviderName = (typeof PROVIDERS)[number];

/** Sandbox handle, as in the paths of the control plane. */
export const Handle = z.string().regex(/^[a-z0-9-]{1,63}$/);
export const RunId = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/);
const Name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$/);
const Prompt = z
  .string()
  .min(1)
  .max(1024 * 1024);
export const EnvName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, "is no name of a variable: A-Z, a-z, 0-9 and _ alone");
/** One label of a host name (RFC 1123). */
const HostLabel = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);

/**
 * Where the files of a sandbox come from: `path` is a folder of the laptop, `url` and `ref` a
 * repository and what of it. For `archive` a `ref` is the name of the upload that the run waits for.
 */
export const WorkspaceSpec = z
  .strictObject({
    mode: z.enum(["none", "read_only", "read_write", "git", "archive"]),
    path: z.string().min(1).max(4096).optional(),
    url: z.string().min(1).max(4096).optional(),
    ref: z
      .string()
      .regex(/^[A-Za-z0-9_][A-Za-z0-9._/@+-]{0,254}$/)
      .optional(),
  })
  .superRefine(({ mode, path, url, ref }, c) => {
    const refuse = (field: string, message: string) =>
      c.addIssue({ code: "custom", path: [field], message });
    const onHost = mode === "read_only" || mode === "read_write";
    if (onHost && path === undefined) refuse("path", `mode ${mode} needs a folder of the laptop`);
    if (onHost && path !== undefined && !/^(\/|[A-Za-z]:[\\/])/.test(path)) {
      refuse("path", "is not an absolute path");
    }
    if (!onHost && path !== undefined) refuse("path", `mode ${mode} takes no folder`);
    if (mode === "git" && !isCloneUrl(url)) {
      refuse("url", "mode git needs an http or https address without a user or password in it");
    }
    if (mode !== "git" && url !== undefined) refuse("url", `mode ${mode} takes no address`);
    if (mode !== "git" && mode !== "archive" && ref !== undefined) {
      refuse("ref", `mode ${mode} takes no ref`);
    }
  });

/** Credentials in it would be in the log, in argv and in the repository's own settings. */
function isCloneUrl(url: string | undefined): boolean {
  if (url === undefined || !URL.canParse(url)) return false;
  const { protocol, username, password, hostname } = new URL(url);
  return /^https?:$/.test(protocol) && username === "" && password === "" && hostname !== "";
}
export type WorkspaceSpec = z.infer<typeof WorkspaceSpec>;

/** What a sandbox shall be. Every field is optional; what this build can't honour is refused. */
export const SandboxSpec = z.strictObject({
  provider: z.enum(PROVIDERS).optional(),
  template: Name.optional(),
  image: Name.optional(),
  /** A name of the laptop's own map of images, such as `haskell`. Feature `sandbox.runtime`. */
  runtime: Name.optional(),
  /** 1 sandboxed, 2 standard, 3 privileged, 4 full host; unknown or zero is 2. */
  tier: z.int().optional(),
  workspace: WorkspaceSpec.optional(),
  env: z.record(EnvName, z.string().max(32 * 1024)).optional(),
  resources: z
    .strictObject({
      memoryMib: z.int().min(64).max(1_048_576).optional(),
      cpus: z.number().min(0.1).max(1024).optional(),
      pids: z.int().min(16).max(1_000_000).optional(),
    })
    .optional(),
  /** `open`: the engine's network; `none`: no network but the model proxy. */
  egress: z.enum(["none", "open"]).optional(),
  /** Ports inside that are published on the laptop's 127.0.0.1. Feature `sandbox.ports`. */
  ports: z.array(z.int().min(1).max(65_535)).max(16).optional(),
  /**
   * The private network of the sandboxes of this thread; `name` is this one's there, its handle
   * when absent. Feature `sandbox.network`.
   */
  network: z.strictObject({ thread: z.literal(true), name: HostLabel.optional() }).optional(),
});
export type SandboxSpec = z.infer<typeof SandboxSpec>;

export const RunOptions = z.strictObject({
  model: z.string().min(1).max(255).optional(),
  systemPrompt: z
    .string()
    .max(256 * 1024)
    .optional(),
  maxSteps: z.int().min(1).max(10_000).optional(),
  /** Wall-clock limit of the run, in seconds. */
  timeoutSeconds: z.int().min(1).max(604_800).optional(),
});
export type RunOptions = z.infer<typeof RunOptions>;

/** Body of `POST /api/runs`. `harness` is checked against {@link HARNESSES} for its own code. */
export const CreateRun = z.strictObject({
  harness: z.string().min(1).max(64),
  prompt: Prompt,
  thread: z.string().min(1).max(255).optional(),
  branch: z.string().min(1).max(255).optional(),
  link: z.string().min(1).max(128).optional(),
  sandbox: SandboxSpec.optional(),
  options: RunOptions.optional(),
});
export type CreateRun = z.infer<typeof CreateRun>;

/** Body of the daemon's `POST /v1/runs`. */
export const DispatchRun = z.strictObject({
  runId: RunId,
  attempt: z.int().min(1),
  harness: z.string().min(1).max(64),
  prompt: Prompt,
  sandbox: SandboxSpec.optional(),
  user: z.string().min(1).max(255).optional(),
  thread: z.string().min(1).max(255).optional(),
  branch: z.string().min(1).max(255).optional(),
  options: RunOptions.optional(),
});
export type DispatchRun = z.infer<typeof DispatchRun>;

/** What `GET /v1/runs` and `GET /v1/runs/{id}` of the daemon say of one attempt. */
export interface RunState {
  readonly runId: string;
  readonly attempt: number;
  readonly status: RunStatus;
  /** Lowest number still in the journal; `lastSeq + 1` when everything was truncated. */
  readonly firstSeq: number;
  /** Highest number given out; 0 before the first. */
  readonly lastSeq: number;
}

/** A run's chain up to some event, as lower-case hex. */
export const Chain = z.string().regex(/^[0-9a-f]{64}$/);

/** What 410 `events_truncated` of a daemon adds: where its journal begins, and the chain up to there. */
export const Truncated = z.looseObject({
  firstSeq: z.int().min(1),
  /** Absent from daemons of before: nothing behind such a gap can be acknowledged. */
  chain: Chain.optional(),
});

export const Ack = z.strictObject({
  attempt: z.int().min(1),
  seq: z.int().min(0),
  chain: Chain,
});
export type Ack = z.infer<typeof Ack>;

export const CancelRun = z.strictObject({ attempt: z.int().min(1) });
export const RunInput = z.strictObject({
  attempt: z.int().min(1),
  text: z.string().max(1024 * 1024),
});
export const RunDecision = z.strictObject({
  attempt: z.int().min(1),
  callId: z.string().min(1).max(255).optional(),
  reason: z
    .string()
    .max(64 * 1024)
    .optional(),
});

/** What a link offers. Parsed one by one: an unknown name is kept, a malformed element dropped. */
export const Capability = z.looseObject({
  name: z.string().min(1).max(128),
  /** False when it is known but absent now; `reason` then says why. Absent means true. */
  available: z.boolean().optional(),
  version: z.string().max(255).optional(),
  arch: z.string().max(64).optional(),
  reason: z.string().max(2000).optional(),
  fix: z.string().max(2000).optional(),
});
export type Capability = z.infer<typeof Capability>;

/** Reads a list of capabilities element by element (LESSONS 11); never throws. */
export function parseCapabilities(value: unknown): Capability[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((element) => {
    const parsed = Capability.safeParse(element);
    return parsed.success ? [parsed.data] : [];
  });
}

const PublicJwk = z.object({
  kty: z.literal("OKP"),
  crv: z.literal("Ed25519"),
  x: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
});

/** Body of `POST /api/links`. Unknown fields are ignored: daemons and hubs differ in age. */
export const Register = z.object({
  machineId: z.string().min(1).max(128),
  name: z.string().min(1).max(255),
  hostname: z.string().max(255),
  platform: z.string().max(64),
  arch: z.string().max(64),
  cliVersion: z.string().max(64),
  /** Any integer parses; out of range is 426. */
  protocolVersion: z.int(),
  capabilities: z.unknown().transform(parseCapabilities),
  publicKey: PublicJwk,
  proof: z.string().min(1).max(8192),
  tunnelUrl: z.string().max(2048).optional(),
  /** What this daemon knows beyond the first protocol 1; daemons of before tell none. */
  features: z.array(z.string().max(128)).max(256).optional().catch(undefined),
});
export type Register = z.infer<typeof Register>;
/** The same before parsing, as the daemon sends it. */
export type RegisterBody = Omit<Register, "capabilities" | "features"> & {
  readonly capabilities: readonly Capability[];
  readonly features: readonly string[];
};

/** Answer of `POST /api/links`. */
export const Registered = z.object({
  linkId: z.string().min(1),
  epoch: z.int().min(1),
  linkSecret: z.string().min(1),
  /** 32 bytes, base64url. */
  signingKey: z.string().min(1),
  heartbeatIntervalMs: z.int().min(10),
  ttlMs: z.int().min(10),
  /** The hub's clock, RFC 3339. */
  now: z.string().min(1),
  hub: z.object({
    version: z.string(),
    protocol: z.object({ min: z.int(), max: z.int() }),
    features: z.array(z.string()),
  }),
});
export type Registered = z.infer<typeof Registered>;

export const LinkState = z.enum(["online", "suspended", "draining"]);
export type LinkState = z.infer<typeof LinkState>;

const HeartbeatRun = z.object({
  runId: RunId,
  attempt: z.int().min(1),
  lastSeq: z.int().min(0),
  status: RunStatus,
});

/** One by one: a status that a newer daemon knows must not take the link down (LESSONS 11). */
function oneByOne<T>(schema: z.ZodType<T>) {
  return z.array(z.unknown()).transform((elements) =>
    elements.flatMap((element) => {
      const parsed = schema.safeParse(element);
      return parsed.success ? [parsed.data] : [];
    }),
  );
}

const SettledRun = z.object({
  ...HeartbeatRun.shape,
  user: z.string().max(255).optional(),
  harness: z.string().max(64).optional(),
  thread: z.string().max(255).optional(),
  branch: z.string().max(255).optional(),
});

/**
 * A page of the runs that a hub has acknowledged to their end, in the order in which it did.
 *
 * @see PROTOCOL.md, section "Registration"
 */
export const SettledRuns = z.object({
  /** Which journal counts: a copied home may have another one. */
  journal: z.string().min(1).max(64),
  /** All runs numbered `after + 1` to `through` that the ledger still has. */
  after: z.int().min(0),
  through: z.int().min(0),
  /** How many the journal has counted. */
  total: z.int().min(0),
  runs: oneByOne(SettledRun),
});
export type SettledRuns = z.infer<typeof SettledRuns>;

/** Body of `POST /api/links/heartbeat`. Unknown fields are ignored. */
export const Heartbeat = z.object({
  epoch: z.int(),
  state: LinkState,
  load: z.looseObject({ runs: z.int().min(0), maxRuns: z.int().min(0).optional() }),
  runs: oneByOne(HeartbeatRun),
  settled: SettledRuns.optional().catch(undefined),
  capabilities: z.unknown().transform(parseCapabilities).optional(),
});
export type Heartbeat = z.infer<typeof Heartbeat>;

export const HeartbeatAnswer = z.object({
  now: z.string().min(1),
  epoch: z.int(),
  revoked: z.boolean(),
  cancel: z.array(z.string()),
  /** Up to where the hub knows the journal's settled runs; the next heartbeat lists those behind. */
  settled: z.int().min(0).optional(),
});
export type HeartbeatAnswer = z.infer<typeof HeartbeatAnswer>;
