import { createHash, createHmac, randomBytes } from "node:crypto";
import { DecoError } from "../../protocol/errors.ts";

export interface ModelLimits {
  readonly maxBodyBytes: number;
  /** Requests of one run at a time. */
  readonly maxConcurrent: number;
  /** Requests per run. */
  readonly maxRequests: number;
  /** Input and output tokens per run; checked before each request. */
  readonly maxTokens: number;
}

export const DEFAULT_LIMITS: ModelLimits = {
  maxBodyBytes: 32 * 1024 * 1024,
  maxConcurrent: 16,
  maxRequests: 2000,
  maxTokens: 20_000_000,
};

/** What one run used so far, by the daemon's own look. */
export interface ModelUsage {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly requests: number;
}

/** One admitted request. */
export interface Admission extends Disposable {
  /** Aborted when the run's token dies. */
  readonly signal: AbortSignal;
  /** Adds to what the run used; takes back when an estimate was too high. */
  count(tokens: { inputTokens: number; outputTokens: number }): void;
}

interface Grant {
  readonly runId: string;
  readonly used: { inputTokens: number; outputTokens: number; requests: number };
  readonly ended: AbortController;
  active: number;
}

/** Ended runs whose usage is still told. */
const MAX_ENDED = 1000;

/** The tokens that are alive, what each run used, and what it may still use. */
export class Grants {
  readonly #limits: ModelLimits;
  readonly #tokenKey: Uint8Array;
  /** By the token's SHA-256: a look-up by hash tells nothing by its time. */
  readonly #byToken = new Map<string, Grant>();
  readonly #byRun = new Map<string, Grant>();
  readonly #ended = new Map<string, ModelUsage>();

  constructor(limits: ModelLimits, tokenKey: Uint8Array = randomBytes(32)) {
    this.#limits = limits;
    this.#tokenKey = tokenKey;
  }

  /** The run's token; granting it again gives the same one and keeps what was counted. */
  grant(runId: string): { token: string } {
    const token = `deco_run_${createHmac("sha256", this.#tokenKey).update(runId).digest("base64url")}`;
    if (!this.#byRun.has(runId)) {
      const before = this.#ended.get(runId) ?? { inputTokens: 0, outputTokens: 0, requests: 0 };
      const grant = { runId, used: { ...before }, ended: new AbortController(), active: 0 };
      this.#byRun.set(runId, grant);
      this.#byToken.set(hash(token), grant);
    }
    return { token };
  }

  /** Ends the token and what runs under it, at once. */
  revoke(runId: string): void {
    const grant = this.#byRun.get(runId);
    if (grant === undefined) return;
    this.#byRun.delete(runId);
    for (const [token, other] of this.#byToken) if (other === grant) this.#byToken.delete(token);
    grant.ended.abort(new DecoError("unauthorized", "the run has ended"));
    this.#ended.set(runId, grant.used);
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > MAX_ENDED && oldest !== undefined) this.#ended.delete(oldest);
  }

  usage(runId: string): ModelUsage {
    const used = this.#byRun.get(runId)?.used ?? this.#ended.get(runId);
    return { inputTokens: 0, outputTokens: 0, requests: 0, ...used };
  }

  /**
   * Takes one request in, by the first of its tokens that is alive.
   *
   * @throws DecoError unauthorized, model_budget
   */
  admit(tokens: readonly string[]): Admission {
    const grant = tokens.map((token) => this.#byToken.get(hash(token))).find((found) => found);
    if (grant === undefined) {
      throw new DecoError("unauthorized", "no run that is alive has this model token", {
        fix: "Use the model access of the run; it ends with the run.",
      });
    }
    this.#checkBudget(grant);
    grant.used.requests += 1;
    grant.active += 1;
    return {
      signal: grant.ended.signal,
      count: ({ inputTokens, outputTokens }) => {
        grant.used.inputTokens += inputTokens;
        grant.used.outputTokens += outputTokens;
      },
      [Symbol.dispose]: () => void (grant.active -= 1),
    };
  }

  #checkBudget({ used, active }: Grant): void {
    const { maxConcurrent, maxRequests, maxTokens } = this.#limits;
    if (used.requests >= maxRequests) throw budget(`${maxRequests} model requests`);
    if (used.inputTokens + used.outputTokens >= maxTokens) throw budget(`${maxTokens} tokens`);
    if (active >= maxConcurrent) {
      throw new DecoError("model_budget", `${maxConcurrent} model requests at once are the limit`, {
        fix: "Wait for one of them to end.",
        extensions: { retryAfterSeconds: 1 },
      });
    }
  }
}

function budget(what: string): DecoError {
  return new DecoError("model_budget", `this run has used up its ${what}`);
}

function hash(token: string): string {
  return createHash("sha256").update(token).digest("base64");
}
