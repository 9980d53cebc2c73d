// Kept from before the globals were replaced: the runner's own view of time.
const immediate = globalThis.setImmediate;
const now = performance.now.bind(performance);

/** Lets every microtask run out. */
export function realSetImmediate(): Promise<void> {
  return new Promise((resolve) => {
    immediate(resolve);
  });
}

/** Milliseconds of the real clock. */
export function realNow(): number {
  return now();
}
