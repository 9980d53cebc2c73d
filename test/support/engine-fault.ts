import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Which call of the engine goes wrong, and how. */
export interface Fault {
  readonly method: string;
  readonly path: RegExp;
  /** How many that fit go well before it; none when absent. */
  readonly skip?: number;
  /**
   * `refused`: the engine says 500 and does nothing. `cut before`: the connection breaks, nothing is
   * done. `cut after`: it is done, and the answer is lost.
   */
  readonly how: "refused" | "cut before" | "cut after";
}

/** A real engine, of which one call goes wrong, once. */
export interface FaultyEngine extends AsyncDisposable {
  readonly dockerHost: string;
  /** The next call that fits goes wrong; those after it don't. */
  arm(fault: Fault): void;
  /** Whether the armed one was met. */
  readonly met: () => boolean;
  /** Every call so far, such as `POST /containers/create`. */
  readonly calls: string[];
}

/** Plain requests only: no attach, no exec with a connection of its own. */
export async function faultyEngine(to = "/var/run/docker.sock"): Promise<FaultyEngine> {
  const directory = await mkdtemp(join(tmpdir(), "deco-flt-"));
  const path = join(directory, "docker.sock");
  const calls: string[] = [];
  let armed: Fault | undefined;
  let met = false;
  let skipped = 0;
  const server = createServer((incoming, outgoing) => {
    const { method = "", url = "" } = incoming;
    calls.push(`${method} ${url.split("?")[0]}`);
    const fits = armed?.method === method && armed.path.test(url);
    const fault = fits && skipped++ >= (armed?.skip ?? 0) ? armed : undefined;
    if (fault !== undefined) {
      armed = undefined;
      met = true;
    }
    if (fault?.how === "cut before") {
      incoming.socket.destroy();
      return;
    }
    if (fault?.how === "refused") {
      incoming.resume();
      outgoing.writeHead(500, { "content-type": "application/json" });
      outgoing.end(JSON.stringify({ message: "refused by the test" }));
      return;
    }
    forward(incoming, to, (answer) => {
      if (fault === undefined) {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(outgoing);
        return;
      }
      answer.resume();
      answer.once("end", () => incoming.socket.destroy());
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    dockerHost: `unix://${path}`,
    calls,
    met: () => met,
    arm: (fault) => {
      armed = fault;
      met = false;
      skipped = 0;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function forward(
  incoming: IncomingMessage,
  socketPath: string,
  onAnswer: (answer: IncomingMessage) => void,
): void {
  const { method, url, headers } = incoming;
  const outgoing = request({ socketPath, method, path: url, headers }, onAnswer);
  outgoing.on("error", () => incoming.socket.destroy());
  incoming.pipe(outgoing);
}
