import { DecoError, type ErrorCode } from "../protocol/errors.ts";
import { SseDecoder, type SseFrame } from "../protocol/sse.ts";
import { type AnswerLike, answerError } from "./answer-error.ts";

/**
 * The events of an answer, one at a time, with the back-pressure of the loop that takes them.
 * Status and content type are looked at first (LESSONS 20): a 502 page is an error, not an empty
 * stream. Leaving the loop cancels the body.
 *
 * @throws {@link DecoError} the problem's code, or `fallback`, when the answer is no event stream.
 */
export async function* readSse(
  answer: AnswerLike,
  options: { fallback?: ErrorCode } = {},
): AsyncGenerator<SseFrame, void, undefined> {
  const type = answer.headers.get("content-type") ?? "";
  if (answer.status < 200 || answer.status > 299) throw await answerError(answer, options.fallback);
  if (!/^text\/event-stream\s*(;|$)/i.test(type)) {
    await answer.body.cancel();
    throw new DecoError(
      options.fallback ?? "unavailable",
      `expected an event stream, got ${answer.status} (${type || "no content type"})`,
    );
  }
  const decoder = new SseDecoder();
  const reader = answer.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* decoder.push(value);
    }
  } finally {
    // A no-op at the end; else it closes the connection.
    await reader.cancel().catch(() => undefined);
  }
}
