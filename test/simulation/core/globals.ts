import { createHmac } from "node:crypto";
import { theWorld } from "./current.ts";
import type { FakeTimer } from "./world.ts";

type Callback = (...args: unknown[]) => void;

/**
 * Replaces every source of time and chance that the runtime offers: timers, clocks, random numbers,
 * and WebCrypto, which would otherwise answer from a thread pool in whatever order.
 */
export function replaceGlobals(): void {
  replaceTimers();
  Date.now = () => theWorld().wallClock();
  performance.now = () => theWorld().monotonic();
  Math.random = () => theWorld().random.next();
  replaceCrypto();
}

function start(run: Callback, ms: number | undefined, args: unknown[]): FakeTimer {
  return theWorld().timer(() => run(...args), ms ?? 0);
}

function stop(timer: unknown): void {
  if (isTimer(timer)) timer.happening.run = undefined;
}

function interval(run: Callback, ms: number | undefined, ...args: unknown[]): FakeTimer {
  const first = start(again, ms, []);
  function again(): void {
    const next = start(again, ms, []);
    // The handle that the caller has stays the one that stops it.
    Object.assign(first, { happening: next.happening });
    run(...args);
  }
  return first;
}

function replaceTimers(): void {
  Object.assign(globalThis, {
    setTimeout: (run: Callback, ms?: number, ...args: unknown[]) => start(run, ms, args),
    setImmediate: (run: Callback, ...args: unknown[]) => start(run, 0, args),
    setInterval: interval,
    clearTimeout: stop,
    clearImmediate: stop,
    clearInterval: stop,
  });
  AbortSignal.timeout = (ms: number) => {
    const controller = new AbortController();
    theWorld().timer(() => {
      controller.abort(new DOMException("The operation timed out.", "TimeoutError"));
    }, ms);
    return controller.signal;
  };
  AbortSignal.any = anyOf;
}

/**
 * The runtime keeps a signal of its own `any` alive, and through its listeners the whole world, for
 * as long as a source lives that nobody aborts: in a world that ends where it stands, for ever.
 */
function anyOf(sources: Iterable<AbortSignal>): AbortSignal {
  const all = [...sources];
  const either = new AbortController();
  const aborted = all.find((source) => source.aborted);
  if (aborted !== undefined) either.abort(aborted.reason);
  else for (const source of all) follow(source, either);
  return either.signal;
}

function follow(source: AbortSignal, either: AbortController): void {
  source.addEventListener("abort", () => either.abort(source.reason), { once: true });
}

function isTimer(value: unknown): value is FakeTimer {
  return typeof value === "object" && value !== null && "happening" in value;
}

interface FakeKey {
  readonly type: string;
  readonly algorithm: object;
  readonly usages: readonly string[];
  readonly secret: string;
  readonly [Symbol.toStringTag]: "CryptoKey";
}

function mac(key: FakeKey, data: Uint8Array): Buffer {
  return createHmac("sha256", key.secret).update(data).digest();
}

function importKey(
  format: string,
  data: unknown,
  algorithm: { name: string; hash?: string },
  _extractable: boolean,
  usages: readonly string[],
): Promise<FakeKey> {
  const jwk = format === "jwk" && isJwk(data) ? data : undefined;
  const secret = data instanceof Uint8Array ? Buffer.from(data).toString("hex") : jwk?.x;
  const type = data instanceof Uint8Array ? "secret" : jwk?.d === undefined ? "public" : "private";
  return Promise.resolve({
    type,
    algorithm: { ...algorithm, hash: { name: algorithm.hash } },
    usages,
    secret: secret ?? "",
    [Symbol.toStringTag]: "CryptoKey",
  });
}

/** Signatures are HMACs over what both halves of a key know: same calls, same order, no threads. */
function replaceCrypto(): void {
  const subtle = {
    importKey,
    sign: (_algorithm: unknown, key: FakeKey, data: Uint8Array) => Promise.resolve(mac(key, data)),
    verify: (_algorithm: unknown, key: FakeKey, signature: Uint8Array, data: Uint8Array) =>
      Promise.resolve(mac(key, data).equals(Buffer.from(signature))),
  };
  for (const [name, value] of Object.entries(subtle)) {
    Object.defineProperty(crypto.subtle, name, { value, configurable: true });
  }
}

function isJwk(value: unknown): value is { x: string; d?: string } {
  return typeof value === "object" && value !== null && "x" in value && typeof value.x === "string";
}
