// Stands for node:timers/promises in the programs under test.
import { theWorld } from "../core/current.ts";

export function setTimeout<T>(
  ms?: number,
  value?: T,
  options: { readonly signal?: AbortSignal } = {},
): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const { signal } = options;
    const onAbort = () => {
      timer.happening.run = undefined;
      reject(abortError(signal));
    };
    const timer = theWorld().timer(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve(value);
    }, ms ?? 0);
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener("abort", onAbort, { once: true });
  });
}

export function setImmediate<T>(value?: T): Promise<T | undefined> {
  return new Promise((resolve) => {
    theWorld().timer(() => resolve(value), 0);
  });
}

function abortError(signal: AbortSignal | undefined): Error {
  const error = new Error("The operation was aborted", { cause: signal?.reason });
  error.name = "AbortError";
  return error;
}
