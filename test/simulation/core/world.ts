import { type Chance, chance } from "./chance.ts";
import { realSetImmediate } from "./real-time.ts";

/** A program of the simulated world; when it dies nothing of it ever runs again. */
export interface Program {
  readonly name: string;
  alive: boolean;
  /** Its machine's wall clock against the world's, in ms. */
  skewMs: number;
  /** How long its machine has slept in all: its monotonic clock stands still meanwhile. */
  sleptMs: number;
  /** The world's time at which its machine wakes, while it sleeps. */
  asleepUntil: number;
  /** Called when it writes; may kill it (see `Disk`). */
  onDeath: (() => void)[];
}

interface Happening {
  at: number;
  readonly order: number;
  readonly program: Program;
  /** Undefined once cancelled or run. */
  run: (() => void) | undefined;
  readonly timer: boolean;
}

/** What `setTimeout` gives back here. */
export interface FakeTimer {
  readonly happening: Happening;
  unref(): FakeTimer;
  ref(): FakeTimer;
  hasRef(): boolean;
}

/**
 * Time and order of everything. One happening runs in one program, then all that follows from it
 * without waiting (microtasks) runs out before the next one: nothing else decides the order.
 */
export class World {
  readonly beganAt = Date.UTC(2026, 0, 1);
  now = this.beganAt;
  /** The program whose happening runs. Everything that it schedules is its own. */
  current: Program;
  /** A fingerprint of what happened, in order: equal for equal seeds. */
  print = 0;
  /** Signatures by RFC 9421 rather than stand-ins. */
  realSignatures = false;
  steps = 0;
  readonly outside: Program;
  readonly #heap: Happening[] = [];
  #order = 0;
  readonly #trace: ((line: string) => void) | undefined;

  /** Behind `Math.random` and every other chance of the programs. */
  readonly random: Chance;

  constructor(seed: Chance = chance(0), trace?: (line: string) => void) {
    this.random = seed.fork();
    this.#trace = trace;
    this.outside = this.program("world");
    this.current = this.outside;
  }

  program(name: string, skewMs = 0): Program {
    return { name, alive: true, skewMs, sleptMs: 0, asleepUntil: 0, onDeath: [] };
  }

  kill(program: Program): void {
    if (!program.alive) return;
    program.alive = false;
    this.trace("dies", program);
    for (const act of program.onDeath) act();
  }

  /** The machine of these programs sleeps: their timers stand still, what comes in waits. */
  sleep(programs: readonly Program[], ms: number): void {
    if (programs.some(({ asleepUntil }) => asleepUntil > this.now)) return;
    for (const program of programs) {
      program.asleepUntil = this.now + ms;
      program.sleptMs += ms;
    }
    for (const happening of this.#heap) {
      if (happening.timer && programs.includes(happening.program)) happening.at += ms;
    }
    this.#heap.sort((a, b) => a.at - b.at || a.order - b.order);
  }

  /** Runs `run` in `program`, `inMs` from now, unless it is dead by then. */
  schedule(program: Program, inMs: number, run: () => void, timer = false): Happening {
    const happening: Happening = {
      at: this.now + Math.max(0, inMs),
      order: this.#order++,
      program,
      run,
      timer,
    };
    push(this.#heap, happening);
    return happening;
  }

  /** A timer of the current program. */
  timer(run: () => void, inMs: number): FakeTimer {
    const happening = this.schedule(this.current, Math.max(inMs, 0), run, true);
    const timer: FakeTimer = {
      happening,
      unref: () => timer,
      ref: () => timer,
      hasRef: () => true,
    };
    return timer;
  }

  wallClock(): number {
    return Math.floor(this.now + this.current.skewMs);
  }

  monotonic(): number {
    return this.now - this.current.sleptMs;
  }

  trace(line: string, program = this.current): void {
    this.#trace?.(`${(this.now - this.beganAt).toFixed(1)} ${program.name}: ${line}`);
  }

  get tracing(): boolean {
    return this.#trace !== undefined;
  }

  /** Runs until `done` or until the time is over; true when done. */
  async run(done: () => boolean, until: number, maxSteps: number): Promise<boolean> {
    for (;;) {
      if (done()) return true;
      if (this.steps >= maxSteps) return false;
      const next = pop(this.#heap);
      if (next === undefined || next.at > until) {
        if (next !== undefined) push(this.#heap, next);
        this.now = Math.max(this.now, until);
        return done();
      }
      const { run, program } = next;
      if (run === undefined || !program.alive) continue;
      if (program.asleepUntil > next.at) {
        next.at = program.asleepUntil;
        push(this.#heap, next);
        continue;
      }
      this.now = Math.max(this.now, next.at);
      this.steps += 1;
      this.print = Math.imul(this.print ^ (next.order + Math.floor(this.now)), 0x01000193) >>> 0;
      this.current = program;
      next.run = undefined;
      try {
        run();
      } catch (error) {
        // What a dead program still throws goes nowhere.
        if (program.alive) throw error;
      }
      await realSetImmediate();
      this.current = this.outside;
    }
  }
}

function before(a: Happening, b: Happening): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

function push(heap: Happening[], item: Happening): void {
  let at = heap.length;
  heap.push(item);
  while (at > 0) {
    const up = (at - 1) >> 1;
    const parent = heap[up];
    if (parent === undefined || !before(item, parent)) break;
    heap[at] = parent;
    at = up;
  }
  heap[at] = item;
}

function pop(heap: Happening[]): Happening | undefined {
  const first = heap[0];
  const last = heap.pop();
  if (first === undefined || last === undefined || heap.length === 0) return first;
  let at = 0;
  for (;;) {
    let down = 2 * at + 1;
    let child = heap[down];
    if (child === undefined) break;
    const right = heap[down + 1];
    if (right !== undefined && before(right, child)) {
      child = right;
      down += 1;
    }
    if (!before(child, last)) break;
    heap[at] = child;
    at = down;
  }
  heap[at] = last;
  return first;
}
