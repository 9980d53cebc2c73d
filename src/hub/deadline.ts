import { DecoError } from "../protocol/errors.ts";

export interface Deadline extends Disposable {
  readonly signal: AbortSignal;
}

/** One signal out of several and a time limit in ms (`timeout`); dispose it when the call is over. */
export function deadline(signals: readonly AbortSignal[], ms?: number): Deadline {
  const controller = new AbortController();
  const off: (() => void)[] = [];
  for (const signal of signals) {
    const abort = () => controller.abort(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    off.push(() => signal.removeEventListener("abort", abort));
  }
  if (ms !== undefined) {
    const late = () => controller.abort(new DecoError("timeout", `no answer within ${ms} ms`));
    const timer = setTimeout(late, ms);
    off.push(() => clearTimeout(timer));
  }
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      for (const remove of off) remove();
    },
  };
}

/** Waits; ends early, without an error, when the signal aborts. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
    if (signal.aborted) done();
  });
}
