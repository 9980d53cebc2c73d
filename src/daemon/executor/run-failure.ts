import { DecoError, ERRORS, type ErrorCode, type Leg } from "../../protocol/errors.ts";

/** An error with the part of the path on which it happened (LESSONS 19). */
export class LegError extends Error {
  override readonly name = "LegError";
  readonly leg: Leg;
  readonly error: DecoError;

  constructor(leg: Leg, error: DecoError) {
    super(error.message, { cause: error });
    this.leg = leg;
    this.error = error;
  }
}

/** Runs one step; whatever it throws names this leg. */
export async function onLeg<T>(leg: Leg, fallback: ErrorCode, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (thrown) {
    if (thrown instanceof LegError) throw thrown;
    throw new LegError(leg, DecoError.from(thrown, fallback));
  }
}

/** Payload of `run.failed`. */
export function failurePayload(thrown: unknown): Record<string, unknown> {
  const { leg, error } =
    thrown instanceof LegError ? thrown : { leg: "daemon", error: DecoError.from(thrown) };
  const { code, message, fix, extensions } = error;
  const { exitCode } = extensions;
  const exit = typeof exitCode === "number" ? { exitCode } : {};
  return { code, leg, detail: message, fix, ...exit };
}

/** What a harness says of its own failure, in our words; nothing of it is taken on trust. */
export function harnessFailure(payload: Readonly<Record<string, unknown>>): LegError {
  const { code, detail, error, fix, exitCode } = payload;
  const known = typeof code === "string" && isErrorCode(code) ? code : "harness_failed";
  const said = [detail, error].find((text) => typeof text === "string" && text !== "");
  const text = typeof said === "string" ? said.slice(0, 16_384) : "it gave no reason";
  const hint = typeof fix === "string" && fix !== "" ? { fix: fix.slice(0, 2000) } : {};
  return new LegError("harness", new DecoError(known, text, { ...hint, extensions: { exitCode } }));
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}
