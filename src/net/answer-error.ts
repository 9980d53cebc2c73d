import { DecoError, type ErrorCode } from "../protocol/errors.ts";
import { readAll } from "./web-stream.ts";

const LIMIT_BYTES = 64 * 1024;

/** The least that an answer of any transport has. */
export interface AnswerLike {
  readonly status: number;
  readonly headers: Headers;
  readonly body: ReadableStream<Uint8Array>;
}

/**
 * The error that an answer which was not hoped for stands for: its problem document when it has
 * one, else `fallback` with the status and the first words of the body. Uses the body up.
 */
export async function answerError(answer: AnswerLike, fallback?: ErrorCode): Promise<DecoError> {
  const code = fallback ?? (answer.status >= 500 ? "unavailable" : "internal");
  const type = answer.headers.get("content-type") ?? "";
  const text = await readAll(answer.body, LIMIT_BYTES).then(
    (bytes) => new TextDecoder().decode(bytes),
    () => "",
  );
  if (/\bjson\b/.test(type)) {
    const problem = parsed(text);
    if (typeof problem === "object" && problem !== null && "code" in problem)
      return DecoError.fromProblem(problem, code);
  }
  const words = text.slice(0, 200).trim();
  const detail = `the peer answered ${answer.status} (${type || "no content type"})`;
  return new DecoError(code, words === "" ? detail : `${detail}: ${words}`, {
    extensions: { peerStatus: answer.status },
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
