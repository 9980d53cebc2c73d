/**
 * Settles like `work`, or rejects with the signal's reason, whichever comes first. The work itself
 * goes on: use it for what others share, or for calls that know no signal.
 */
export async function untilAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined);
  signal.throwIfAborted();
  const listening = new AbortController();
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener(
      "abort",
      () => reject(signal.reason instanceof Error ? signal.reason : new Error("aborted")),
      { once: true, signal: listening.signal },
    );
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    listening.abort();
  }
}
