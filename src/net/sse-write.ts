import { deferred } from "../protocol/deferred.ts";
import { encodeSse, type SseFrame } from "../protocol/sse.ts";

export interface SseResponseOptions {
  /** The request's signal: ends the stream and the source. */
  readonly signal: AbortSignal;
  /** Asked for the next event only when the reader took the last one. */
  readonly events: AsyncIterable<SseFrame>;
  /** A comment line goes out after so long without an event. */
  readonly pingMs?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * An endless answer. The head goes out at once (with a first comment, since servers wait for a
 * body); events are pulled by the reader, so a stopped one holds the source, not memory. When the
 * source throws the connection breaks: a reader never takes that for the end.
 */
export function sseResponse(options: SseResponseOptions): Response {
  return new Response(sseBody(options), {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
      ...options.headers,
    },
  });
}

function sseBody(options: SseResponseOptions): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const source = options.events[Symbol.asyncIterator]();
  const { signal, pingMs = 15_000 } = options;
  let next: Promise<Happening> | undefined;
  const leave = () => {
    settled();
    // Not awaited: a generator that waits for an event ends its `return` with that wait.
    source.return?.()?.catch(() => undefined);
  };
  const abort = deferred<Happening>();
  const onAbort = () => abort.resolve({ type: "aborted" });
  const settled = () => signal.removeEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => controller.enqueue(encoder.encode(": open\n\n")),
      async pull(controller) {
        next ??= source.next().then(
          ({ done, value }): Happening => (done ? { type: "end" } : { type: "event", value }),
          (error: unknown): Happening => ({ type: "failed", error }),
        );
        const happening = await firstOf([abort.promise, next], pingMs);
        switch (happening.type) {
          case "ping":
            controller.enqueue(encoder.encode(": ping\n\n"));
            return;
          case "event":
            next = undefined;
            controller.enqueue(encoder.encode(encodeSse(happening.value)));
            return;
          case "failed":
            settled();
            controller.error(happening.error);
            return;
          case "aborted":
            leave();
            controller.close();
            return;
          case "end":
            settled();
            controller.close();
            return;
        }
      },
      cancel: leave,
    },
    { highWaterMark: 1 },
  );
}

type Happening =
  | { readonly type: "event"; readonly value: SseFrame }
  | { readonly type: "ping" | "aborted" | "end" }
  | { readonly type: "failed"; readonly error: unknown };

async function firstOf(waits: readonly Promise<Happening>[], pingMs: number): Promise<Happening> {
  let timer: NodeJS.Timeout | undefined;
  const ping = new Promise<Happening>((resolve) => {
    timer = setTimeout(resolve, pingMs, { type: "ping" });
  });
  try {
    return await Promise.race([...waits, ping]);
  } finally {
    clearTimeout(timer);
  }
}
