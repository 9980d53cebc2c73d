import { DecoError } from "../../../../protocol/errors.ts";
import type { MadeAhead } from "../../../provider.ts";
import type { SandboxLog } from "../../../sandbox-log.ts";
import type { WantedSandbox } from "../../../sandbox-spec.ts";
import { untilAbort } from "../../../until-abort.ts";
import { WarmUses } from "./warm-uses.ts";

/** What a sandbox that is made ahead is made from. */
export interface WarmOrder {
  /** Stands for all of the rest. */
  readonly key: string;
  readonly wanted: WantedSandbox;
  readonly harness: string | undefined;
}

/** A sandbox that is ready, and nobody's yet. */
export interface Spare {
  readonly key: string;
  /** Unique, and never a run's. */
  readonly handle: string;
  readonly id: string;
  readonly startedAt: string;
  /** Unix ms. */
  readonly madeAt: number;
  readonly memoryMib: number;
}

/** The engine's side of it. */
export interface WarmMaker {
  make(order: WarmOrder, signal: AbortSignal): Promise<Omit<Spare, "key" | "madeAt">>;
  /** What it uses now. */
  memoryMib(spare: Spare, signal: AbortSignal): Promise<number>;
  /** Gone already is success. */
  discard(spare: Pick<Spare, "handle" | "id">, signal: AbortSignal): Promise<void>;
  /** All of this instance that are nobody's, whoever made them. */
  list(signal: AbortSignal): Promise<Pick<Spare, "handle" | "id">[]>;
}

export interface WarmPoolOptions {
  /** Most that are kept ready together; 0 makes none. */
  readonly size: number;
  /** Most that they may use together. */
  readonly memoryMib: number;
  readonly maker: WarmMaker;
  /** Whether no sandbox is being started, whose start a refill would slow down. */
  readonly idle: () => boolean;
  readonly log: SandboxLog;
  /** Unix ms. */
  readonly now?: () => number;
}

const MINUTE = 60_000;
const MAX_AGE_MS = 30 * MINUTE;
const MAKE_MS = 2 * MINUTE;

/**
 * Sandboxes made ahead for the specs that are in use: one of each, two where they follow closely.
 * Each is handed out once, and is its sandbox's from then on.
 */
export class WarmPool {
  readonly #o: WarmPoolOptions;
  readonly #now: () => number;
  readonly #spares: Spare[] = [];
  /** Handles of what is being leased. */
  readonly #held = new Set<string>();
  readonly #uses: WarmUses;
  #leased = 0;
  #closed = false;
  readonly #closing = new AbortController();
  /** One piece of work after the other. */
  #work = Promise.resolve();

  constructor(options: WarmPoolOptions) {
    this.#o = options;
    this.#now = options.now ?? Date.now;
    this.#uses = new WarmUses(options.size, this.#now);
  }

  counts(): MadeAhead {
    return {
      ready: this.#spares.length,
      memoryMib: this.#memory(),
      leased: this.#leased,
      ...this.#uses.waiting(),
    };
  }

  /** Notes that there is a new sandbox of this spec. */
  use(order: WarmOrder): void {
    if (this.#o.size > 0) this.#uses.note(order);
  }

  /**
   * Tries one after the other until an attempt succeeds; one that fails is discarded.
   *
   * @returns undefined when none is left. @throws the signal's reason alone
   */
  async lease<T>(
    key: string,
    attempt: (spare: Spare) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T | undefined> {
    for (;;) {
      const spare = this.#take(key);
      if (spare === undefined) return undefined;
      try {
        const found = await attempt(spare);
        this.#leased += 1;
        return found;
      } catch (thrown) {
        this.#o.log.warn({ err: thrown, id: spare.id }, "what was made ahead is of no use: next");
        await this.#discard(spare);
        signal.throwIfAborted();
      } finally {
        this.#held.delete(spare.handle);
      }
    }
  }

  /** Makes what is missing, in the background, while no sandbox is being started. */
  refill(): void {
    if (this.#missing() !== undefined) void this.#queue(() => this.#fill());
  }

  /** Ends what daemons that died left, what is too old, and what is above the limit of memory. */
  async tend(signal: AbortSignal): Promise<void> {
    await untilAbort(
      this.#queue(() => this.#tend(signal)),
      signal,
    );
  }

  /**
   * Removes what nobody took, of daemons that died before as well. Nothing is made afterwards; one that
   * is being made is finished first: an engine goes on with what is given up.
   */
  async close(signal: AbortSignal): Promise<void> {
    this.#closed = true;
    try {
      await untilAbort(this.#work, signal);
    } finally {
      this.#closing.abort(new DecoError("draining", "the daemon leaves"));
    }
    await Promise.all(this.#spares.splice(0).map((one) => this.#discard(one, signal)));
    await untilAbort(
      this.#queue(() => this.#reap(signal)),
      signal,
    );
  }

  #take(key: string): Spare | undefined {
    const fresh = (one: Spare) => one.key === key && !this.#isOld(one);
    const at = this.#spares.findIndex(fresh);
    const [spare] = at < 0 ? [] : this.#spares.splice(at, 1);
    if (spare !== undefined) this.#held.add(spare.handle);
    return spare;
  }

  #isOld = ({ madeAt }: Spare) => this.#now() - madeAt >= MAX_AGE_MS;

  #memory = () => this.#spares.reduce((sum, one) => sum + one.memoryMib, 0);

  #count = (key: string) => this.#spares.filter((one) => one.key === key).length;

  #missing(): WarmOrder | undefined {
    return this.#closed ? undefined : this.#uses.missing(this.#count);
  }

  #surplus(): Spare | undefined {
    const wanted = this.#uses.wanted();
    return this.#spares.find(
      (one) => this.#isOld(one) || this.#count(one.key) > (wanted.get(one.key) ?? 0),
    );
  }

  #queue(what: () => Promise<void>): Promise<void> {
    this.#work = this.#work.then(what).catch((thrown: unknown) => {
      this.#o.log.debug(
        { err: thrown },
        "what was made ahead was not looked at; again in a minute",
      );
    });
    return this.#work;
  }

  async #fill(): Promise<void> {
    await this.#drop(() => this.#surplus());
    for (let order = this.#missing(); order && this.#o.idle(); order = this.#missing()) {
      try {
        await this.#make(order);
        this.#uses.made(order.key);
      } catch (thrown) {
        if (this.#closed) return;
        const inMs = this.#uses.failed(order.key, DecoError.from(thrown).message);
        this.#o.log.warn({ err: thrown, inMs }, "no sandbox could be made ahead");
      }
    }
  }

  async #make(order: WarmOrder): Promise<void> {
    const { maker, memoryMib } = this.#o;
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(MAKE_MS)]);
    const made = await maker.make(order, signal);
    const spare: Spare = { ...made, key: order.key, madeAt: this.#now() };
    const sum = this.#memory() + spare.memoryMib;
    if (sum <= memoryMib && !signal.aborted) {
      this.#spares.push(spare);
      return;
    }
    await this.#discard(spare);
    throw new DecoError("sandbox_failed", `it would use ${sum} of ${memoryMib} MiB`);
  }

  async #tend(signal: AbortSignal): Promise<void> {
    this.#uses.forgetOld();
    await this.#drop(() => this.#surplus());
    await this.#reap(signal);
    if (this.#spares.length === 0) return;
    const measured = await Promise.all(
      this.#spares.map(async (one) => {
        const memoryMib = await this.#o.maker.memoryMib(one, signal).catch(() => one.memoryMib);
        return [one.handle, memoryMib] as const;
      }),
    );
    const used = new Map(measured);
    for (const [at, one] of this.#spares.entries()) {
      this.#spares[at] = { ...one, memoryMib: used.get(one.handle) ?? one.memoryMib };
    }
    await this.#drop(() => (this.#memory() > this.#o.memoryMib ? this.#spares[0] : undefined));
  }

  async #drop(next: () => Spare | undefined): Promise<void> {
    for (let one = next(); one !== undefined; one = next()) {
      this.#spares.splice(this.#spares.indexOf(one), 1);
      await this.#discard(one);
    }
  }

  async #reap(signal: AbortSignal): Promise<void> {
    // Those that are taken while the engine makes its list are spared, too.
    const before = new Set([...this.#spares.map(({ handle }) => handle), ...this.#held]);
    const listed = await this.#o.maker.list(signal);
    const lost = listed.filter(({ handle }) => !before.has(handle));
    await Promise.all(lost.map((one) => this.#o.maker.discard(one, signal)));
    const there = new Set(listed.map(({ handle }) => handle));
    // Removed by others; what they left of it goes, too.
    await this.#drop(() => this.#spares.find(({ handle }) => !there.has(handle)));
  }

  /** What can't be removed now, is reaped within a minute. */
  async #discard(spare: Spare, signal = AbortSignal.timeout(20_000)): Promise<void> {
    try {
      await this.#o.maker.discard(spare, signal);
    } catch (thrown) {
      this.#o.log.info(
        { err: thrown, id: spare.id },
        "what was made ahead could not be removed yet",
      );
    }
  }
}
