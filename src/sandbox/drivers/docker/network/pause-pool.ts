import type { SandboxLog } from "../../../sandbox-log.ts";
import { untilAbort } from "../../../until-abort.ts";
import { listOwnContainers } from "../container/own-containers.ts";
import { removeForced } from "../container/remove.ts";
import type { Engine } from "../engine/engine.ts";
import { LABELS } from "../names.ts";
import { makePause, PAUSE_ROLE, pauseOf, pauseState } from "./pause.ts";

export interface PausePoolOptions {
  readonly engine: Engine;
  readonly instanceId: string;
  /** How many are kept ready; 0 makes none. */
  readonly size: number;
  /** An image of ours that is on this machine; undefined while there is none. Builds nothing. */
  readonly image: (signal: AbortSignal) => Promise<string | undefined>;
  /** Makes or finds the instance's network. */
  readonly network: (signal: AbortSignal) => Promise<string>;
  /** Whether no sandbox is being started, whose start a refill would slow down. */
  readonly idle: () => boolean;
  readonly log: SandboxLog;
}

const MAKE_MS = 60_000;

/**
 * Pause containers made ahead. Most of a start's time goes into a network namespace; a sandbox that
 * joins the one of a pause starts in half the time. A pause is one sandbox's alone, and is removed
 * with it.
 */
export class PausePool {
  readonly #o: PausePoolOptions;
  readonly #ready: string[] = [];
  /** Taken ones that no container has joined yet. */
  readonly #held = new Set<string>();
  #closed = false;
  /** One piece of work after the other. */
  #work = Promise.resolve();

  constructor(options: PausePoolOptions) {
    this.#o = options;
  }

  /**
   * A pause that runs, if one is ready; from now on the caller's to remove.
   *
   * @throws docker_unavailable
   */
  async take(signal: AbortSignal): Promise<string | undefined> {
    for (;;) {
      const id = this.#ready.shift();
      if (id === undefined) return undefined;
      this.#held.add(id);
      if (await this.#runs(id, signal)) return id;
      this.#held.delete(id);
      this.#o.log.debug({ id }, "a network that was made ahead is gone");
    }
  }

  /** Its sandbox's container is there now, or will never be. */
  settle(id: string): void {
    this.#held.delete(id);
  }

  /** Makes what is missing, in the background, while no sandbox is being started. */
  refill(): void {
    if (this.#wanting) void this.#queue(() => this.#fill());
  }

  /** Ends what daemons that died left behind, and what an engine's end stopped. */
  async reap(signal: AbortSignal): Promise<void> {
    await untilAbort(
      this.#queue(() => this.#reap(signal)),
      signal,
    );
  }

  /** Removes what nobody took, of daemons that died before as well. Nothing is made afterwards. */
  async close(signal: AbortSignal): Promise<void> {
    this.#closed = true;
    await untilAbort(this.#work, signal);
    this.#ready.splice(0);
    await this.reap(signal);
  }

  get #wanting(): boolean {
    return !this.#closed && this.#ready.length < this.#o.size;
  }

  #queue(what: () => Promise<void>): Promise<void> {
    this.#work = this.#work.then(what).catch((thrown: unknown) => {
      this.#o.log.debug({ err: thrown }, "no network was made ahead; again with the next sandbox");
    });
    return this.#work;
  }

  async #runs(id: string, signal: AbortSignal): Promise<boolean> {
    try {
      return (await pauseState(this.#o.engine, id, signal)) === "running";
    } catch (thrown) {
      this.#held.delete(id);
      this.#ready.push(id);
      throw thrown;
    }
  }

  async #fill(): Promise<void> {
    while (this.#wanting && this.#o.idle()) {
      const signal = AbortSignal.timeout(MAKE_MS);
      const image = await this.#o.image(signal);
      if (image === undefined) return;
      const network = await this.#o.network(signal);
      this.#ready.push(await makePause({ ...this.#o, image, network }, signal));
    }
  }

  async #reap(signal: AbortSignal): Promise<void> {
    // Those that are taken and joined while the engine makes its list are spared, too.
    const spared = new Set([...this.#ready, ...this.#held]);
    const lost = await findLost(this.#o, signal);
    for (const { id, runs } of lost) {
      if (runs || !this.#ready.includes(id)) continue;
      this.#ready.splice(this.#ready.indexOf(id), 1);
      spared.delete(id);
    }
    const gone = lost.filter(({ id }) => !spared.has(id) && !this.#held.has(id));
    await Promise.all(gone.map(({ id }) => removeForced(this.#o.engine, id, signal)));
  }
}

/** Pauses of this instance that no container joined. */
async function findLost(o: PausePoolOptions, signal: AbortSignal) {
  const all = await listOwnContainers(o, signal);
  const joined = new Set(all.map(({ HostConfig }) => pauseOf(HostConfig.NetworkMode ?? "")));
  return all
    .filter(({ Id, Labels }) => Labels[LABELS.role] === PAUSE_ROLE && !joined.has(Id))
    .map(({ Id, State }) => ({ id: Id, runs: State === "running" }));
}
