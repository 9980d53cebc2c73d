import type { ErrorInfo } from "./error-info.ts";
import { EDGE_ERRORS } from "./errors-edge.ts";
import { RUN_ERRORS } from "./errors-run.ts";

/**
 * Every code that may cross a process boundary. Codes are never renamed or reused.
 *
 * @see PROTOCOL.md, section "Errors"
 */
export const ERRORS = { ...EDGE_ERRORS, ...RUN_ERRORS } as const satisfies Record<
  string,
  ErrorInfo
>;

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
    return new DecoError(
      isErrorCode(code) ? code : fallback,
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

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === "string" && Object.hasOwn(ERRORS, value);
}
