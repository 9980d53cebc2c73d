/**
 * Groups what is there already, at most `size` at a time, so that one commit stores many. Reads at
 * most one group ahead: a slow store holds the source.
 */
export async function* batched<T>(
  source: AsyncGenerator<T, void, undefined>,
  size: number,
): AsyncGenerator<T[], void, undefined> {
  let next = source.next();
  next.catch(() => undefined);
  try {
    for (;;) {
      const first = await next;
      if (first.done === true) return;
      const batch = [first.value];
      next = source.next();
      next.catch(() => undefined);
      while (batch.length < size) {
        const more = await soon(next);
        if (more === undefined || more.done === true) break;
        batch.push(more.value);
        next = source.next();
        next.catch(() => undefined);
      }
      yield batch;
    }
  } finally {
    // Not awaited: a generator that waits for bytes ends only with that wait.
    source.return().catch(() => undefined);
  }
}

/** What settles without waiting for the outside world, else undefined; failures show at the next await. */
function soon<T>(promise: Promise<T>): Promise<T | undefined> {
  return Promise.race([
    promise.catch(() => undefined),
    new Promise<undefined>((resolve) => {
      setImmediate(() => resolve(undefined));
    }),
  ]);
}
