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
    // Not awaited: a generator that waits for an event ends its `return` with that wait.
    source.return?.()?.catch(() => undefined);
  };
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => controller.enqueue(encoder.encode(": open\n\n")),
      async pull(controller) {
        next ??= source.next().then(
          ({ done, value }): Happening => (done ? { type: "end" } : { type: "event", value }),
          (error: unknown): Happening => ({ type: "failed", error }),
        );
        const happening = await firstOf({ next, signal, pingMs });
        switch (happening.type) {
          case "ping":
            controller.enqueue(encoder.encode(": ping\n\n"));
            return;
          case "event":
            next = undefined;
            controller.enqueue(encoder.encode(encodeSse(happening.value)));
            return;
          case "failed":
            controller.error(happening.error);
            return;
          case "aborted":
            leave();
            controller.close();
            return;
          case "end":
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

/**
 * Waits for the next event (`next` does not reject), an abort or the time for a ping. All that it
 * waits with ends with it: a race against a promise of the whole stream would keep every event.
 */
async function firstOf(o: {
  readonly next: Promise<Happening>;
  readonly signal: AbortSignal;
  readonly pingMs: number;
}): Promise<Happening> {
  const first = deferred<Happening>();
  const onAbort = () => first.resolve({ type: "aborted" });
  const timer = setTimeout(() => first.resolve({ type: "ping" }), o.pingMs);
  if (o.signal.aborted) onAbort();
  else o.signal.addEventListener("abort", onAbort, { once: true });
  void o.next.then(first.resolve);
  try {
    return await first.promise;
  } finally {
    clearTimeout(timer);
    o.signal.removeEventListener("abort", onAbort);
  }
}
