import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";

export const TOKEN = "test-token";
const MAIN = join(import.meta.dirname, "../../src/harnessd/main.ts");

const Ready = z.looseObject({ ready: z.literal(true), url: z.string().optional() });

/** One event as a client reads it. */
export const Frame = z.object({
  id: z.string(),
  run_id: z.string(),
  type: z.string(),
  timestamp: z.string(),
  payload: z.record(z.string(), z.unknown()),
});
export type Frame = z.infer<typeof Frame>;

/** The real program in a folder of its own, with a client for it. */
export interface TestHarnessd extends AsyncDisposable {
  readonly folder: string;
  readonly workspace: string;
  readonly socketPath: string;
  readonly url: string;
  readonly child: ChildProcess;
  stderr(): string;
  /** Sends `body` as JSON and reads the whole answer. */
  call(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }>;
  /** An answer whose body still streams. */
  open(path: string, headers?: Record<string, string>): Promise<IncomingMessage>;
  createRun(body: Record<string, unknown>): Promise<string>;
  /** All events of a run up to its end. */
  events(runId: string, headers?: Record<string, string>): Promise<Frame[]>;
  /** Waits until an event of this kind has come. */
  until(runId: string, matches: (event: Frame) => boolean): Promise<Frame>;
  /** Ends the program by a signal and waits for it. */
  kill(signal: NodeJS.Signals): Promise<number | null>;
}

export interface TestOptions {
  readonly env?: Record<string, string>;
  /** A folder that an earlier one used; it stays. */
  readonly folder?: string;
  readonly withoutToken?: boolean;
  /** A command before it, such as `unshare …`; the folder of the event logs exists then. */
  readonly wrapper?: (dataDir: string) => readonly string[];
}

/** Starts harnessd on a free port and a socket, and waits for its ready line. */
export async function startHarnessd(options: TestOptions = {}): Promise<TestHarnessd> {
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), "harnessd-")));
  const workspace = join(folder, "workspace");
  const socketPath = join(folder, "harnessd.sock");
  await mkdir(workspace, { recursive: true });
  if (!options.withoutToken) await writeFile(join(folder, "token"), TOKEN, { mode: 0o600 });
  const dataDir = join(folder, "data");
  await mkdir(dataDir, { recursive: true });
  const program = [process.execPath, MAIN];
  const [command, ...args] = options.wrapper ? options.wrapper(dataDir).concat(program) : program;
  const child = spawn(command ?? "", args, {
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: folder,
      HARNESS_ADDR: "127.0.0.1:0",
      HARNESS_SOCKET: socketPath,
      HARNESS_WORKSPACE: workspace,
      HARNESS_TOKEN_FILE: join(folder, "token"),
      HARNESS_DATA: dataDir,
      ...options.env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  const url = await new Promise<string>((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`harnessd ended with ${code}: ${errors}`)));
    createInterface(child.stdout).once("line", (line) => {
      resolve(Ready.parse(JSON.parse(line)).url ?? "");
    });
  }).catch(async (error: unknown) => {
    if (options.folder === undefined) await rm(folder, { recursive: true, force: true });
    throw error;
  });
  const client = newClient(url);
  const kill = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const ended = new Promise<number | null>((resolve) => {
      child.once("exit", (code) => resolve(code));
    });
    child.kill(signal);
    return await ended;
  };
  return {
    folder,
    workspace,
    socketPath,
    url,
    child,
    stderr: () => errors,
    ...client,
    kill,
    [Symbol.asyncDispose]: async () => {
      // `unshare --fork` ignores SIGTERM; its --kill-child ends the rest.
      await kill(options.wrapper ? "SIGKILL" : "SIGTERM");
      if (options.folder === undefined) await rm(folder, { recursive: true, force: true });
    },
  };
}

type Client = Pick<TestHarnessd, "call" | "open" | "createRun" | "events" | "until">;

function newClient(url: string): Client {
  const authorization = `Bearer ${TOKEN}`;
  const send = (method: string, path: string, headers: Record<string, string>, body?: string) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest(url + path, {
        method,
        agent: false,
        headers: { authorization, ...headers },
      });
      request.once("response", resolve);
      request.once("error", reject);
      request.end(body);
    });
  const open: Client["open"] = (path, headers = {}) => send("GET", path, headers);
  const call: Client["call"] = async (method, path, body) => {
    const type: Record<string, string> =
      body === undefined ? {} : { "content-type": "application/json" };
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const answer = await send(method, path, type, sent);
    const text = await readText(answer);
    const parsed: unknown = text.startsWith("{") ? JSON.parse(text) : text;
    return { status: answer.statusCode ?? 0, body: parsed };
  };
  return {
    open,
    call,
    createRun: async (body) => {
      const answer = await call("POST", "/v1/runs", body);
      if (answer.status !== 202) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
      return z.object({ run_id: z.string() }).parse(answer.body).run_id;
    },
    events: async (runId, headers) => {
      const found: Frame[] = [];
      for await (const frame of frames(await open(`/v1/runs/${runId}/events`, headers))) {
        found.push(frame);
      }
      return found;
    },
    until: async (runId, matches) => {
      for await (const frame of frames(await open(`/v1/runs/${runId}/events`))) {
        if (matches(frame)) return frame;
      }
      throw new Error("the stream ended without that event");
    },
  };
}

/** The events of an SSE answer, as far as it goes. */
export async function* frames(answer: IncomingMessage): AsyncGenerator<Frame> {
  if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
  let rest = "";
  const pieces: AsyncIterable<string> = answer.setEncoding("utf8");
  for await (const piece of pieces) {
    const parts = (rest + piece).split("\n\n");
    rest = parts.pop() ?? "";
    for (const part of parts) {
      const data = /^data: (.*)$/m.exec(part)?.[1];
      if (data !== undefined) yield Frame.parse(JSON.parse(data));
    }
  }
}

/** The body of an answer as text. */
export async function readText(answer: IncomingMessage): Promise<string> {
  let text = "";
  const pieces: AsyncIterable<string> = answer.setEncoding("utf8");
  for await (const piece of pieces) text += piece;
  return text;
}
