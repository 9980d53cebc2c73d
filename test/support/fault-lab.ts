import { expect } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { resolvePaths } from "../../src/daemon/paths.ts";
import {
  cgroupPids,
  findCgroups,
  removeCgroups,
} from "../../src/sandbox/drivers/process/cgroups.ts";
import { signalTo } from "../../src/sandbox/drivers/process/proc.ts";
import { docker, isEnd, newHome, seqsOf, upTo } from "./e2e-lab.ts";
import { expectLogged, printedLogs } from "./fault-logs.ts";
import { type ReaderOptions, RunReader } from "./fault-reader.ts";
import { firstDifference, numbered } from "./fault-text.ts";
import { type FaultWire, faultWire } from "./fault-wire.ts";
import { call } from "./hub-call.ts";
import { leftovers, type Snapshot, takeSnapshot } from "./leftovers.ts";
import { type RunningDeco, runDeco, startDeco } from "./run-deco.ts";

const TIMEOUT_MS = 3_600_000;
const Listening = z.object({ url: z.string() });
const MyLinks = z.object({
  links: z.array(z.object({ linkId: z.string(), epoch: z.int(), reachable: z.boolean() })),
});

export interface FaultLabOptions {
  /** Of the hub; what `deco hub` does when absent. */
  readonly heartbeatMs?: number;
  readonly ttlMs?: number;
}

/** Hub, daemon and sandboxes, all processes of their own, with a wire between daemon and hub. */
export class FaultLab implements AsyncDisposable {
  readonly home: string;
  readonly #options: FaultLabOptions;
  #before: Snapshot | undefined;
  #hub: ChildProcess | undefined;
  #wire: FaultWire | undefined;
  #links: RunningDeco[] = [];
  #url = "";
  token = "";

  private constructor(home: string, options: FaultLabOptions) {
    this.home = home;
    this.#options = options;
  }

  static async start(options: FaultLabOptions = {}): Promise<FaultLab> {
    const lab = new FaultLab(await newHome(), options);
    lab.#before = await takeSnapshot(lab.home);
    await lab.startHub();
    const made = await runDeco(["hub", "token", "--data", lab.#data, "--json"], lab);
    lab.token = z.object({ token: z.string() }).parse(JSON.parse(made.lines[0] ?? "")).token;
    lab.#wire = await faultWire(() => Number(new URL(lab.#url).port));
    return lab;
  }

  /** The hub itself, past the wire. */
  get url(): string {
    return this.#url;
  }

  get wire(): FaultWire {
    if (this.#wire === undefined) throw new Error("no wire");
    return this.#wire;
  }

  get hub(): ChildProcess {
    if (this.#hub === undefined) throw new Error("no hub");
    return this.#hub;
  }

  /** The daemon that was started last. */
  get link(): RunningDeco {
    const link = this.#links.at(-1);
    if (link === undefined) throw new Error("no daemon");
    return link;
  }

  get #data(): string {
    return join(this.home, "hub-data");
  }

  /** On the port that it had before. */
  async startHub(): Promise<void> {
    const port = this.#url === "" ? "0" : new URL(this.#url).port;
    const { heartbeatMs, ttlMs } = this.#options;
    const args =
      heartbeatMs === undefined
        ? [source("../../src/cli.ts"), "hub", "--port", port, "--data", this.#data, "--json"]
        : [source("./fault-hub.ts"), port, this.#data, String(heartbeatMs), String(ttlMs)];
    const hub = spawn(process.execPath, args, {
      env: { PATH: process.env["PATH"] ?? "", DECO_HOME: this.home, DECO_LOG_LEVEL: "warn" },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#hub = hub;
    for await (const line of createInterface({ input: hub.stdout })) {
      if (!line.includes("hub.listening")) continue;
      this.#url = Listening.parse(JSON.parse(line)).url;
      hub.stdout.resume();
      return;
    }
    throw new Error("the hub ended at its start");
  }

  async killHub(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await end(this.hub, signal);
  }

  /** A daemon that goes through the wire. Without `online` it isn't waited for. */
  async startLink(
    provider: "docker" | "process",
    { online = true, home = this.home } = {},
  ): Promise<RunningDeco> {
    const args = ["link", "--hub", this.wire.url, "--local-sandbox-provider", provider, "--json"];
    const env = { DECO_TOKEN: this.token };
    const link = await startDeco(args, { home, env, timeoutMs: TIMEOUT_MS });
    this.#links.push(link);
    if (online) await link.until(/"link\.online"/);
    return link;
  }

  async killLink(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await end(this.link.child, signal);
  }

  async links() {
    const { body } = await call(this.#url, { path: "/api/links/me", token: this.token });
    return MyLinks.parse(body).links;
  }

  async dispatch(provider: string, prompt: string): Promise<string> {
    const body = { harness: "shell", prompt, sandbox: { provider } };
    const { token } = this;
    const answer = await call(this.#url, { method: "POST", path: "/api/runs", token, body });
    if (answer.status !== 202) throw new Error(`dispatch: ${answer.text}`);
    return String(answer.body["runId"]);
  }

  /** Once runs that a takeover left behind have come to their ends. */
  async dispatchWhenFree(provider: string, prompt: string): Promise<string> {
    for (;;) {
      try {
        return await this.dispatch(provider, prompt);
      } catch (thrown) {
        if (!/"link_busy"|"link_offline"/.test(String(thrown))) throw thrown;
      }
      await sleep(100);
    }
  }

  async cancel(runId: string): Promise<void> {
    const path = `/api/runs/${runId}/cancel`;
    const answer = await call(this.#url, { method: "POST", path, token: this.token, body: {} });
    expect(answer.status).toBe(202);
  }

  read(runId: string, o: Partial<ReaderOptions> = {}): RunReader {
    return new RunReader({ url: () => this.#url, token: this.token, runId, ...o });
  }

  /** What `deco runs logs ID` prints. */
  logs(runId: string): Promise<string> {
    return printedLogs(this, runId);
  }

  /** What `deco runs logs` prints is what the reader was given, byte for byte. */
  expectLogged(reader: RunReader): Promise<void> {
    return expectLogged(this, reader);
  }

  /**
   * The reader came to the end of its run: all lines, in order, once; one terminal event; and a
   * second reader, and `deco runs logs`, get the very same bytes.
   */
  async expectWhole(reader: RunReader, lines: number): Promise<void> {
    await reader.ended;
    const { events, raw } = reader;
    expect(seqsOf(events)).toEqual(upTo(events.length));
    expect(events.filter(isEnd).map(({ type }) => type)).toEqual(["run.completed"]);
    expect(firstDifference(reader.output, numbered(lines))).toBeUndefined();
    const runId = events[0]?.runId ?? "";
    const again = this.read(runId, { limitMs: 30_000 });
    await again.ended;
    expect(again.raw).toEqual(raw);
    await this.expectLogged(reader);
  }

  /** Of the home's daemon, and of its copies: they share the instance. */
  async #cgroups(): Promise<string[]> {
    const { instanceFile } = resolvePaths({ env: { DECO_HOME: this.home } });
    const file = await readFile(instanceFile, "utf8").catch(() => undefined);
    if (file === undefined) return [];
    const { instanceId } = z.looseObject({ instanceId: z.string() }).parse(JSON.parse(file));
    return [...(await findCgroups(instanceId)), ...(await findCgroups(`probe-${instanceId}`))];
  }

  /** What is left when all is stopped by SIGTERM. */
  async leftBehind(): Promise<string[]> {
    for (const link of this.#links) await link[Symbol.asyncDispose]();
    await end(this.hub, "SIGTERM");
    if (this.#before === undefined) return [];
    const found = await leftovers(this.home, this.#before);
    return found.filter((what) => !/^(volumes|networks): /.test(what));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.#links) child.kill("SIGCONT");
    for (const link of this.#links) await link[Symbol.asyncDispose]();
    this.hub.kill("SIGCONT");
    await end(this.hub, "SIGTERM");
    await this.#wire?.[Symbol.asyncDispose]();
    const left = await takeSnapshot(this.home);
    // What a test that failed could not end: sandboxes of a daemon that was superseded, say.
    for (const line of left.processes) signalTo(Number(line.split(" ")[0]), "SIGKILL");
    const groups = await this.#cgroups();
    for (const pid of await cgroupPids(groups)) signalTo(pid, "SIGKILL");
    await removeCgroups(groups);
    for (const line of left.containers) {
      const [id = "", name = ""] = line.split(" ");
      await docker("rm", "-f", "-v", id);
      await docker("volume", "rm", "-f", `${name}-workspace`);
    }
    for (const name of left.networks) await docker("network", "rm", name);
    await rm(this.home, { recursive: true, force: true });
  }
}

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url));

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  await once(child, "exit");
}
