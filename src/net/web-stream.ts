import type { Readable } from "node:stream";
import { DecoError } from "../protocol/errors.ts";

/** Bytes held for a reader that is slow, before the source is paused. */
const QUEUE_BYTES = 64 * 1024;

/**
 * A node stream as a web stream that pauses its source while nobody reads. Ends only on `end`; a
 * source that closes before it gives an error, never a short body that looks whole.
 */
export function webStream(
  source: Readable,
  options: { onCancel: () => void; failure: (error: Error | undefined) => Error },
): ReadableStream<Uint8Array> {
  let open = true;
  const finish = (act: () => void) => {
    if (!open) return;
    open = false;
    act();
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        source.on("data", (chunk: Uint8Array) => {
          if (!open) return;
          controller.enqueue(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
          if ((controller.desiredSize ?? 0) <= 0) source.pause();
        });
        source.once("end", () => finish(() => controller.close()));
        source.on("error", (error) => finish(() => controller.error(options.failure(error))));
        source.once("close", () => finish(() => controller.error(options.failure(undefined))));
        source.pause();
      },
      pull() {
        source.resume();
      },
      cancel() {
        open = false;
        options.onCancel();
      },
    },
    { highWaterMark: QUEUE_BYTES, size: (chunk) => chunk?.byteLength ?? 0 },
  );
}

/** @throws {@link DecoError} `body_too_large` above `limit` bytes; the rest is cancelled. */
export async function readAll(
  body: ReadableStream<Uint8Array>,
  limit: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = body.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.byteLength;
    if (length > limit) {
      await reader.cancel();
      throw new DecoError("body_too_large", `the body is over ${limit} bytes`);
    }
    chunks.push(value);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}
