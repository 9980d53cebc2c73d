import { expect } from "bun:test";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { resolvePaths } from "../../src/daemon/paths.ts";
import { openHubKeys } from "../../src/hub/keys.ts";
import { httpRequest } from "../../src/net/http-request.ts";
import { isEnd, newHome, seqsOf, upTo } from "./e2e-lab.ts";
import { expectLogged } from "./fault-logs.ts";
import { RunReader } from "./fault-reader.ts";
import { firstDifference, numbered } from "./fault-text.ts";
import { call } from "./hub-call.ts";
import { TalkingChild } from "./impaired-child.ts";
import { ImpairedPath } from "./impaired-path.ts";

const HUB = fileURLToPath(new URL("./programs/impaired-hub.ts", import.meta.url));
const CLI = fileURLToPath(new URL("../../src/cli.ts", import.meta.url));
const HUB_PORT = "4000";
const MyLinks = z.object({ links: z.array(z.looseObject({ reachable: z.boolean() })) });
const Status = z.looseObject({ state: z.string(), tunnel: z.string() });

/** Hub and daemon as processes in two networks, with a bad path between them; we stand outside. */
export class ImpairedLab implements AsyncDisposable {
  readonly path: ImpairedPath;
  readonly home: string;
  readonly token: string;
  readonly daemon: TalkingChild;
  readonly #hub: TalkingChild;
  readonly #door: Server;

  private constructor(parts: Omit<ImpairedLabParts, "door">, door: Server) {
    this.path = parts.path;
    this.home = parts.home;
    this.token = parts.token;
    this.daemon = parts.daemon;
    this.#hub = parts.hub;
    this.#door = door;
  }

  static async start({ heartbeatMs = 1000, ttlMs = 3000 } = {}): Promise<ImpairedLab> {
    const path = await ImpairedPath.create();
    const home = await newHome();
    const data = join(home, "hub-data");
    const socket = join(home, "door");
    const host = path.farAddress;
    const hubArgs = [HUB, host, HUB_PORT, data, socket, String(heartbeatMs), String(ttlMs)];
    const hub = new TalkingChild(...path.far.command(process.execPath, ...hubArgs), {});
    await hub.until(/hub\.listening/);
    const door = await doorTo(socket);
    const token = await openHubKeys(data).userToken({ user: "ada", ttlSeconds: 3600 });
    const url = `http://${host}:${HUB_PORT}`;
    const args = [CLI, "link", "--hub", url, "--insecure", "--json"];
    const provider = ["--local-sandbox-provider", "process", "--allow-unconfined"];
    const daemon = new TalkingChild(...path.near.command(process.execPath, ...args, ...provider), {
      DECO_HOME: home,
      DECO_TOKEN: token,
      TMPDIR: home,
      HOME: home,
    });
    await daemon.until(/"link\.online"/);
    return new ImpairedLab({ path, home, token, daemon, hub }, door);
  }

  /** The hub, by a way that nothing impairs. */
  get url(): string {
    return `http://127.0.0.1:${portOf(this.#door)}`;
  }

  async run(prompt: string): Promise<RunReader> {
    const body = { harness: "shell", prompt, sandbox: { provider: "process" } };
    const { token, url } = this;
    const answer = await call(url, { method: "POST", path: "/api/runs", token, body });
    if (answer.status !== 202) throw new Error(`dispatch: ${answer.text}`);
    return this.#reader(String(answer.body["runId"]));
  }

  async isReachable(): Promise<boolean> {
    const { body } = await call(this.url, { path: "/api/links/me", token: this.token });
    return MyLinks.parse(body).links.some(({ reachable }) => reachable);
  }

  /** What the daemon says of itself; it answers within 2 s whatever becomes of its network. */
  async status() {
    const { controlSocket: socketPath } = resolvePaths({ env: { DECO_HOME: this.home } });
    const signal = AbortSignal.timeout(2000);
    return Status.parse(
      await (await httpRequest({ socketPath, path: "/v1/status", signal })).json(),
    );
  }

  /** Milliseconds until the hub reaches the link (or doesn't), from now. */
  async untilReachable(wanted: boolean, limitMs: number): Promise<number> {
    const startedAt = performance.now();
    while ((await this.isReachable()) !== wanted) {
      if (performance.now() - startedAt > limitMs)
        throw new Error(`reachable: ${!wanted} for ${limitMs} ms; ${this.daemon.said}`);
      await new Promise((resolve) => {
        setTimeout(resolve, 20);
      });
    }
    return performance.now() - startedAt;
  }

  /** The run came whole: all lines once and in order, one end, and the same bytes for who asks again. */
  async expectWhole(reader: RunReader, lines: number): Promise<void> {
    await reader.ended;
    const { events, raw } = reader;
    expect(seqsOf(events)).toEqual(upTo(events.length));
    expect(events.filter(isEnd).map(({ type }) => type)).toEqual(["run.completed"]);
    expect(firstDifference(reader.output, numbered(lines))).toBeUndefined();
    const again = this.#reader(events[0]?.runId ?? "");
    await again.ended;
    expect(again.raw).toEqual(raw);
    await this.expectLogged(reader);
  }

  /** What `deco runs logs` prints is what the reader was given, byte for byte. */
  expectLogged(reader: RunReader): Promise<void> {
    return expectLogged(this, reader);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon.end();
    await this.#hub.end();
    await new Promise((done) => this.#door.close(done));
    await this.path[Symbol.asyncDispose]();
    await rm(this.home, { recursive: true, force: true });
  }

  #reader(runId: string): RunReader {
    return new RunReader({ url: () => this.url, token: this.token, runId, limitMs: 600_000 });
  }
}

interface ImpairedLabParts {
  readonly path: ImpairedPath;
  readonly home: string;
  readonly token: string;
  readonly daemon: TalkingChild;
  readonly hub: TalkingChild;
  readonly door: Server;
}

async function doorTo(socketPath: string): Promise<Server> {
  const server = createServer((near) => {
    const far = connect(socketPath);
    for (const socket of [near, far]) socket.on("error", () => [near, far].map((s) => s.destroy()));
    near.pipe(far).pipe(near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
