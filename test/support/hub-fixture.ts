import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { type HubOptions, type RunningHub, startHub } from "../../src/hub/main.ts";
import { httpRequest } from "../../src/net/http-request.ts";
import { readSse } from "../../src/net/sse-read.ts";
import { RunEvent } from "../../src/protocol/run-events.ts";
import { call } from "./hub-call.ts";
import { FakeDaemon } from "./hub-daemon.ts";

const MyLinks = z.object({
  links: z.array(z.object({ linkId: z.string(), reachable: z.boolean() })),
});
const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** A hub on a free port with a data directory of its own; it can be stopped and started again. */
export class HubFixture implements AsyncDisposable {
  readonly dataDir: string;
  hub: RunningHub;
  readonly #options: Partial<HubOptions>;
  readonly #daemons: FakeDaemon[] = [];

  private constructor(dataDir: string, hub: RunningHub, options: Partial<HubOptions>) {
    this.dataDir = dataDir;
    this.hub = hub;
    this.#options = options;
  }

  static async start(options: Partial<HubOptions> = {}): Promise<HubFixture> {
    const dataDir = await mkdtemp(join(tmpdir(), "deco-hub-"));
    const hub = await startHub({ port: 0, dataDir, log: quiet, ...options });
    return new HubFixture(dataDir, hub, options);
  }

  get url(): string {
    return this.hub.url;
  }

  token(user = "ada"): Promise<string> {
    return this.hub.userToken({ user, ttlSeconds: 600 });
  }

  /** A cookie of a fresh session, as `Cookie` wants it. */
  async session(user = "ada"): Promise<string> {
    const path = `/sign-in?code=${this.hub.loginCode(user)}`;
    const { headers } = await call(this.url, { path });
    return headers.get("set-cookie")?.split(";")[0] ?? "";
  }

  /** The same data, the same port: what a supervisor does after a crash. */
  async restart(): Promise<void> {
    const { port } = this.hub;
    await this.hub.close();
    this.hub = await startHub({ dataDir: this.dataDir, log: quiet, ...this.#options, port });
  }

  daemon(): FakeDaemon {
    const daemon = new FakeDaemon(this.url);
    this.#daemons.push(daemon);
    return daemon;
  }

  /** A daemon that is online and reachable. */
  async linked(user = "ada", prepare?: (daemon: FakeDaemon) => void): Promise<FakeDaemon> {
    const daemon = this.daemon();
    prepare?.(daemon);
    const token = await this.token(user);
    await daemon.start(token);
    await this.reachable(token, daemon.linkId);
    return daemon;
  }

  async reachable(token: string, linkId: string, wanted = true): Promise<void> {
    await until(async () => {
      const { body } = await call(this.url, { path: "/api/links/me", token });
      const { links } = MyLinks.parse(body);
      return links.some((link) => link.linkId === linkId && link.reachable === wanted);
    });
  }

  /** Dispatches a shell run; gives its id. */
  async dispatch(token: string, over: Record<string, unknown> = {}): Promise<string> {
    const body = { harness: "shell", prompt: "true", ...over };
    const answer = await call(this.url, { method: "POST", path: "/api/runs", token, body });
    if (answer.status !== 202) throw new Error(`dispatch: ${JSON.stringify(answer.body)}`);
    return String(answer.body["runId"]);
  }

  /** A run's events to the end of the stream. */
  async events(token: string, runId: string, after = 0): Promise<RunEvent[]> {
    const answer = await httpRequest({
      url: this.url,
      path: `/api/runs/${runId}/events?after=${after}`,
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(20_000),
    });
    const events: RunEvent[] = [];
    for await (const frame of readSse(answer)) {
      const event = RunEvent.parse(JSON.parse(frame.data));
      if (String(event.seq) !== frame.id) throw new Error(`id ${frame.id} is not seq ${event.seq}`);
      events.push(event);
    }
    return events;
  }

  async run(token: string, runId: string) {
    return (await call(this.url, { path: `/api/runs/${runId}`, token })).body;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const daemon of this.#daemons) await daemon.stop();
    await this.hub.close();
    await rm(this.dataDir, { recursive: true });
  }
}

/** Looks again until it holds; fails after 10 s. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error("it never came to hold");
    await new Promise((resolve) => {
      setTimeout(resolve, 10);
    });
  }
}
