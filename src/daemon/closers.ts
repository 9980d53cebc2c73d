/** What was opened, closed in the opposite order. */
export interface Closers {
  add(close: () => Promise<void>): void;
  use<T extends AsyncDisposable>(opened: T): T;
  /** Closes everything, whatever fails on the way; throws the first failure at its end. */
  close(): Promise<void>;
}

/** `AsyncDisposableStack`, which Node 20 lacks. */
export function closers(): Closers {
  const opened: (() => Promise<void>)[] = [];
  const add = (close: () => Promise<void>) => {
    opened.push(close);
  };
  return {
    add,
    use(disposable) {
      add(async () => disposable[Symbol.asyncDispose]());
      return disposable;
    },
    async close() {
      const failures: unknown[] = [];
      for (const close of opened.splice(0).toReversed()) {
        await close().catch((error: unknown) => failures.push(error));
      }
      if (failures.length > 0) throw failures[0];
    },
  };
}
