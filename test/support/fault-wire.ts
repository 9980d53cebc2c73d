import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Frame } from "../../src/protocol/frames.ts";
import { takeMessage } from "./fault-frames.ts";

/** up: from the one who dials (daemon, client); down: from the hub. */
export type Direction = "up" | "down";

/** Something whole that is about to pass: the head of the tunnel's handshake, or one message. */
export interface Passing {
  readonly direction: Direction;
  readonly kind: "head" | "message";
  readonly bytes: Buffer;
  readonly frames: readonly Frame[];
}

/** Lets `pass` through and then cuts both sides; or passes nothing on any more, closing nothing. */
export type Fault = { readonly pass: Uint8Array } | "blackhole";
export type Rule = (passing: Passing) => Fault | undefined;

/** A line between daemon and hub, byte for byte, that breaks where it is told to. */
export interface FaultWire extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  /** Asked for whatever passes in a tunnel until it names a fault; resolves when that has happened. */
  arm(rule: Rule): Promise<void>;
  /** Resolves when the next tunnel stands: its 101 has passed. */
  nextTunnel(): Promise<void>;
  /** Cuts everything now. */
  cut(): void;
  /** Bytes that passed, both ways. */
  passed(): number;
}

const TUNNEL = /^GET \/api\/links\/tunnel[ ?]/;
const HIGH_WATER = 1024 * 1024;

export async function faultWire(target: () => number): Promise<FaultWire> {
  const lines = new Set<Line>();
  const stood: (() => void)[] = [];
  let armed: { readonly rule: Rule; readonly done: () => void } | undefined;
  let passed = 0;
  const ask: Rule = (passing) => {
    const current = armed;
    const fault = current?.rule(passing);
    if (fault === undefined || current === undefined) {
      const up = passing.kind === "head" && passing.direction === "down";
      if (up) for (const tell of stood.splice(0)) tell();
      return undefined;
    }
    armed = undefined;
    current.done();
    return fault;
  };
  const server: Server = createServer((near) => {
    const far = connect(target(), "127.0.0.1");
    const line = new Line(near, far, ask, (bytes) => {
      passed += bytes;
    });
    lines.add(line);
    line.onClose = () => lines.delete(line);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const port = portOf(server);
  const cut = () => {
    for (const line of lines) line.cut();
  };
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    arm: (rule) =>
      new Promise((done) => {
        armed = { rule, done };
      }),
    nextTunnel: () => new Promise((resolve) => stood.push(resolve)),
    cut,
    passed: () => passed,
    async [Symbol.asyncDispose]() {
      cut();
      await new Promise((done) => server.close(done));
    },
  };
}

/** A line whose every connection ends after so many bytes from the hub; 0 = not at all. */
export async function shortWire(target: () => number, bytes: () => number) {
  const sockets = new Set<Socket>();
  let cuts = 0;
  const server = createServer((near) => {
    const far = connect(target(), "127.0.0.1");
    let left = bytes();
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far);
    far.on("data", (chunk: Buffer) => {
      const part = chunk.subarray(0, Math.min(left, chunk.length));
      left -= part.length;
      near.write(part, () => {
        if (left > 0) return;
        cuts += 1;
        near.destroy();
      });
      if (left <= 0) far.removeAllListeners("data").pause();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${portOf(server)}`,
    cuts: () => cuts,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((done) => server.close(done));
    },
  };
}

/** One connection through the wire. */
class Line {
  onClose: () => void = () => undefined;
  readonly #sockets: Readonly<Record<Direction, Socket>>;
  readonly #held: Record<Direction, Buffer> = { up: Buffer.alloc(0), down: Buffer.alloc(0) };
  readonly #headPassed: Record<Direction, boolean> = { up: false, down: false };
  readonly #ask: Rule;
  readonly #count: (bytes: number) => void;
  /** Whether it is a tunnel; undefined until its first line is there. */
  #tunnel: boolean | undefined;
  #state: "open" | "broken" | "blackhole" = "open";

  constructor(near: Socket, far: Socket, ask: Rule, count: (bytes: number) => void) {
    this.#sockets = { up: near, down: far };
    this.#ask = ask;
    this.#count = count;
    for (const direction of ["up", "down"] as const) {
      const socket = this.#sockets[direction];
      socket.setNoDelay(true);
      socket.on("error", () => undefined);
      socket.on("data", (chunk: Buffer) => this.#take(direction, chunk));
      socket.on("close", () => {
        if (this.#state !== "blackhole") this.cut();
      });
    }
  }

  cut(): void {
    this.#state = "broken";
    this.#sockets.up.destroy();
    this.#sockets.down.destroy();
    this.onClose();
  }

  #take(direction: Direction, chunk: Buffer): void {
    if (this.#state !== "open") return;
    this.#held[direction] = Buffer.concat([this.#held[direction], chunk]);
    if (this.#tunnel === undefined && direction === "up")
      this.#tunnel = TUNNEL.test(this.#held.up.toString("latin1", 0, 64));
    for (;;) {
      const passing = this.#next(direction);
      if (passing === undefined) return;
      this.#held[direction] = this.#held[direction].subarray(passing.bytes.length);
      const fault = this.#tunnel === true ? this.#ask(passing) : undefined;
      if (fault !== undefined) return this.#break(direction, fault);
      this.#write(direction, passing.bytes);
    }
  }

  #next(direction: Direction): Passing | undefined {
    const held = this.#held[direction];
    if (held.length === 0) return undefined;
    if (this.#tunnel !== true) return { direction, kind: "message", bytes: held, frames: [] };
    if (this.#headPassed[direction]) {
      const message = takeMessage(held);
      return message === undefined ? undefined : { direction, kind: "message", ...message };
    }
    const end = held.indexOf("\r\n\r\n");
    if (end < 0) return undefined;
    this.#headPassed[direction] = true;
    // A refusal has a body instead of messages: it passes as it is.
    if (direction === "down" && !held.toString("latin1", 0, 12).endsWith("101")) {
      this.#tunnel = false;
      return { direction, kind: "message", bytes: held, frames: [] };
    }
    return { direction, kind: "head", bytes: held.subarray(0, end + 4), frames: [] };
  }

  #write(direction: Direction, bytes: Uint8Array): void {
    this.#count(bytes.byteLength);
    const from = this.#sockets[direction];
    const to = this.#sockets[direction === "up" ? "down" : "up"];
    to.write(bytes);
    if (to.writableLength < HIGH_WATER) return;
    from.pause();
    to.once("drain", () => from.resume());
  }

  #break(direction: Direction, fault: Fault): void {
    if (fault === "blackhole") {
      this.#state = "blackhole";
      return;
    }
    this.#state = "broken";
    const to = this.#sockets[direction === "up" ? "down" : "up"];
    this.#count(fault.pass.byteLength);
    to.write(fault.pass, () => this.cut());
  }
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
