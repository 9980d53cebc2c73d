import { setTimeout as sleep } from "node:timers/promises";
import { httpRequest } from "../../src/net/http-request.ts";
import { readSse } from "../../src/net/sse-read.ts";
import { deferred } from "../../src/protocol/deferred.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import { RunEvent } from "../../src/protocol/run-events.ts";
import { isEnd } from "./e2e-lab.ts";

export interface ReaderOptions {
  /** The hub, or a line to it; asked anew for each connection. */
  readonly url: () => string;
  readonly token: string;
  readonly runId: string;
  /** Ends a reader whose run never ends. */
  readonly limitMs?: number;
  /** Starts over when the hub takes back what was not agreed (PROTOCOL.md, section "Run events"). */
  readonly mayBeTakenBack?: boolean;
}

/**
 * A client of the hub that resumes with Last-Event-ID until the terminal event, whatever becomes of
 * its connections. A number that comes twice, or not at all, ends it with an error.
 */
export class RunReader {
  readonly events: RunEvent[] = [];
  /** The `data` of each event, as it came. */
  readonly raw: string[] = [];
  readonly ended: Promise<void>;
  connections = 0;
  #output = "";
  #lines = 0;
  readonly #stop = new AbortController();
  readonly #watchers = new Set<() => void>();

  constructor(options: ReaderOptions) {
    this.ended = this.#readAll(options);
    this.ended.catch(() => undefined);
  }

  /** All output so far. */
  get output(): string {
    return this.#output;
  }

  /** Whole lines of output so far. */
  get lines(): number {
    return this.#lines;
  }

  get last(): RunEvent | undefined {
    return this.events.at(-1);
  }

  /** Waits until it holds, looking at each event; fails when the run ends before. */
  async until(holds: () => boolean): Promise<void> {
    const held = deferred();
    const look = () => {
      if (holds()) held.resolve();
    };
    this.#watchers.add(look);
    look();
    try {
      await Promise.race([held.promise, this.ended]);
      if (!holds()) throw new Error(`the run ended before: ${this.raw.at(-1)?.slice(0, 500)}`);
    } finally {
      this.#watchers.delete(look);
    }
  }

  stop(): void {
    this.#stop.abort();
  }

  async #readAll(options: ReaderOptions): Promise<void> {
    const { limitMs = 300_000 } = options;
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(limitMs)]);
    while (!(this.last && isEnd(this.last))) {
      try {
        await this.#readOnce(options, signal);
      } catch (error) {
        if (signal.aborted || error instanceof Disorder) throw error;
        if (DecoError.from(error).code === "seq_ahead") this.#startOver(options);
      }
      await sleep(20, undefined, { signal });
    }
  }

  #startOver({ mayBeTakenBack }: ReaderOptions): void {
    if (!mayBeTakenBack) throw new Disorder("the hub took back what it had shown");
    this.events.length = 0;
    this.raw.length = 0;
    this.#output = "";
    this.#lines = 0;
  }

  async #readOnce({ url, token, runId }: ReaderOptions, signal: AbortSignal): Promise<void> {
    const answer = await httpRequest({
      url: url(),
      path: `/api/runs/${runId}/events`,
      headers: { authorization: `Bearer ${token}`, "last-event-id": String(this.events.length) },
      signal,
    });
    this.connections += 1;
    for await (const { id, data } of readSse(answer)) this.#add(id, data);
  }

  #add(id: string | undefined, data: string): void {
    const event = RunEvent.parse(JSON.parse(data));
    const expected = this.events.length + 1;
    if (event.seq !== expected || id !== String(expected))
      throw new Disorder(`event ${event.seq} with id ${id} instead of ${expected}`);
    if (this.last && isEnd(this.last)) throw new Disorder(`${data} behind the terminal event`);
    this.events.push(event);
    this.raw.push(data);
    if (event.type === "tool.output.delta") {
      const content = String(event.payload["content"]);
      this.#output += content;
      this.#lines += content.split("\n").length - 1;
    }
    for (const watcher of this.#watchers) watcher();
  }
}

class Disorder extends Error {}
