import { deferred } from "../../../src/protocol/deferred.ts";
import type { Side, WireAnswer } from "./connection.ts";

/** An answer as the asker sees it coming in. */
export interface AnswerStream {
  readonly side: Side;
  readonly head: Promise<WireAnswer>;
  answer(status: number, headers: readonly (readonly [string, string])[]): void;
  push(bytes: Uint8Array): void;
  end(): void;
  fail(error: unknown): void;
}

export function answerStream(
  side: Side,
  signal: AbortSignal,
  o: { readonly onEnd: () => void; readonly onLeave: () => void },
): AnswerStream {
  const head = deferred<WireAnswer>();
  head.promise.catch(() => undefined);
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  let open = true;
  const finish = (act: () => void) => {
    if (!open) return;
    open = false;
    signal.removeEventListener("abort", onAbort);
    o.onEnd();
    act();
  };
  const fail = (error: unknown) =>
    finish(() => (controller === undefined ? head.reject(error) : controller.error(error)));
  const leave = (error: unknown) => {
    if (!open) return;
    o.onLeave();
    fail(error);
  };
  function onAbort(): void {
    leave(signal.reason);
  }
  signal.addEventListener("abort", onAbort, { once: true });
  return {
    side,
    head: head.promise,
    answer(status, headers) {
      if (!open) return;
      const body = new ReadableStream<Uint8Array>({
        start: (own) => {
          controller = own;
        },
        cancel: () => {
          o.onLeave();
          finish(() => undefined);
        },
      });
      head.resolve({ status, headers: new Headers(headers.map(([k, v]) => [k, v])), body });
    },
    push(bytes) {
      if (open) controller?.enqueue(bytes);
    },
    end: () => finish(() => controller?.close()),
    fail,
  };
}
