export interface WakeWatchOptions {
  /** Called with the milliseconds that the machine seems to have slept. */
  readonly onWake: (sleptMs: number) => void;
  readonly everyMs?: number;
  readonly now?: () => number;
  /** Milliseconds of a clock that stands still while the machine sleeps. */
  readonly monotonic?: () => number;
}

/** A jump of the wall clock beyond this is a wake (or somebody set the clock: as good a reason). */
export const WAKE_JUMP_MS = 5000;

/** Notices that the laptop slept: its wall clock has run ahead of the monotonic one (LESSONS 1). */
export function watchWake(options: WakeWatchOptions): Disposable {
  const { onWake, everyMs = 2000, now = Date.now, monotonic = () => performance.now() } = options;
  let offset = now() - monotonic();
  const timer = setInterval(() => {
    const current = now() - monotonic();
    const jumpedMs = current - offset;
    offset = current;
    if (jumpedMs > WAKE_JUMP_MS) onWake(jumpedMs);
  }, everyMs);
  timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
