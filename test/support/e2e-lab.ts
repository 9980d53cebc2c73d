import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { z } from "zod";
import { type DaemonPaths, resolvePaths } from "../../src/daemon/paths.ts";
import type { HubOptions } from "../../src/hub/main.ts";
import { httpRequest } from "../../src/net/http-request.ts";
import { readSse } from "../../src/net/sse-read.ts";
import { RunEvent } from "../../src/protocol/run-events.ts";
import { HubFixture } from "./hub-fixture.ts";
import { leftovers, takeSnapshot } from "./leftovers.ts";
import { type RunningDeco, type Runtime, startDeco } from "./run-deco.ts";

/** Everything between a client and a sandbox, real: a hub, and daemons as processes of their own. */
export interface Lab extends AsyncDisposable {
  readonly home: string;
  readonly paths: DaemonPaths;
  readonly hub: HubFixture;
  readonly token: string;
  /** `deco link` on this home (or another), online. */
  link(options?: LinkOptions): Promise<RunningDeco>;
  dispatch(body: Record<string, unknown>): Promise<string>;
  /** A run from its dispatch to its terminal event. */
  run(body: Record<string, unknown>): Promise<RunEvent[]>;
  events(runId: string): AsyncGenerator<RunEvent>;
  /** What is there that was not there before; call it when everything is stopped. */
  leftBehind(): Promise<string[]>;
}

export interface LinkOptions {
  readonly home?: string;
  readonly runtime?: Runtime;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

const CACHE = fileURLToPath(new URL("../../.cache/deco", import.meta.url));

/** Ends a run that hangs; longer than a cold build of the largest image. */
const RUN_LIMIT_MS = 235_000;

export async function startLab(options: Partial<HubOptions> = {}): Promise<Lab> {
  const home = await newHome();
  const paths = resolvePaths({ env: { DECO_HOME: home } });
  const before = await takeSnapshot(home);
  const hub = await HubFixture.start(options);
  const token = await hub.token();
  const started: RunningDeco[] = [];
  const dispatch = (body: Record<string, unknown>) => hub.dispatch(token, body);
  const events = (runId: string) => eventsOf(hub, token, runId);
  return {
    home,
    paths,
    hub,
    token,
    async link({ home: other = home, runtime = "bun", args = [], env = {} } = {}) {
      const command = ["link", "--hub", hub.url, "--json", ...args];
      const link = await startDeco(command, {
        home: other,
        runtime,
        env: { DECO_TOKEN: token, ...env },
        timeoutMs: 600_000,
      });
      started.push(link);
      await link.until(/"link\.online"/);
      return link;
    },
    dispatch,
    events,
    run: async (body) => all(events(await dispatch(body))),
    leftBehind: async () => {
      const instance = await instanceOf(paths);
      const found = await leftovers(home, before);
      // Volumes name no home: those of other suites come and go beside us.
      return found.filter((what) => !what.startsWith("volumes: ") || what.includes(instance));
    },
    async [Symbol.asyncDispose]() {
      for (const link of started) await link[Symbol.asyncDispose]();
      await hub[Symbol.asyncDispose]();
      await removeContainers(home);
      await rm(home, { recursive: true, force: true });
    },
  };
}

const InstanceFile = z.looseObject({ instanceId: z.string().min(1) });

/** The mark of a home's daemon in the names that it gives things of an engine. */
async function instanceOf({ instanceFile }: DaemonPaths): Promise<string> {
  const { instanceId } = InstanceFile.parse(JSON.parse(await readFile(instanceFile, "utf8")));
  return `deco-${instanceId.replace(/[^a-zA-Z0-9]/g, "").slice(0, 12)}-`;
}

/** What a test that failed could not take away itself. */
async function removeContainers(home: string): Promise<void> {
  const left = await takeSnapshot(home);
  for (const line of left.containers) {
    const [id = "", name = ""] = line.split(" ");
    await docker("rm", "-f", "-v", id);
    await docker("volume", "rm", "-f", `${name}-workspace`);
  }
  for (const name of left.networks) await docker("network", "rm", name);
}

/** A home below the system's temporary folder whose cache is the checkout's: built and fetched once. */
export async function newHome(): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), "deco-e2e-"));
  await mkdir(CACHE, { recursive: true });
  await symlink(CACHE, join(home, "cache"));
  return home;
}

/** The events of a run as any client reads them: reconnects behind the last one until the end. */
async function* eventsOf(
  hub: HubFixture,
  token: string,
  runId: string,
): AsyncGenerator<RunEvent, void, undefined> {
  const signal = AbortSignal.timeout(RUN_LIMIT_MS);
  for (let after = 0; ; ) {
    const path = `/api/runs/${runId}/events?after=${after}`;
    const headers = { authorization: `Bearer ${token}` };
    try {
      for await (const { data } of readSse(
        await httpRequest({ url: hub.url, path, headers, signal }),
      )) {
        const event = RunEvent.parse(JSON.parse(data));
        after = event.seq;
        yield event;
        if (isEnd(event)) return;
      }
    } catch (error) {
      // The hub restarts in some tests; what is wrong for good ends by the time limit.
      if (signal.aborted) throw error;
    }
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
  }
}

export function isEnd({ type }: RunEvent): boolean {
  return type === "run.completed" || type === "run.failed" || type === "run.cancelled";
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** What a harness printed, pieced together. */
export function outputOf(events: readonly RunEvent[]): string {
  const deltas = events.filter(({ type }) => type === "tool.output.delta");
  return deltas.map(({ payload }) => String(payload["content"])).join("");
}

/** Numbers of the events, to hold against 1, 2, 3… */
export const seqsOf = (events: readonly RunEvent[]) => events.map(({ seq }) => seq);
export const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

export function payloadOf(events: readonly RunEvent[], type: string): RunEvent["payload"] {
  const found = events.find((event) => event.type === type);
  if (found === undefined) throw new Error(`no ${type} in ${JSON.stringify(events)}`);
  return found.payload;
}

const Receipt = z.looseObject({
  id: z.string().min(1),
  handle: z.string(),
  processesLeft: z.int(),
});

/** What the daemon says of where a completed run was. */
export function receiptOf(events: readonly RunEvent[]): z.infer<typeof Receipt> {
  return Receipt.parse(payloadOf(events, "run.completed")["receipt"]);
}

/** stdout of the docker client. */
export async function docker(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)("docker", args, { timeout: 30_000 });
  return stdout;
}
