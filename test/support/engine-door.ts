import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A real Docker engine behind a door: open, shut (as a stopped engine), or stuck (answers nothing). */
export interface EngineDoor extends AsyncDisposable {
  readonly dockerHost: string;
  set(state: "open" | "shut" | "stuck"): Promise<void>;
}

export async function engineDoor(to = "/var/run/docker.sock"): Promise<EngineDoor> {
  const directory = await mkdtemp(join(tmpdir(), "deco-door-"));
  const path = join(directory, "docker.sock");
  const sockets = new Set<Socket>();
  let state: "open" | "shut" | "stuck" = "open";
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => sockets.delete(socket));
  };
  const server = createServer((socket) => {
    keep(socket);
    if (state === "stuck") return;
    const engine = connect(to);
    keep(engine);
    socket.pipe(engine).pipe(socket);
    socket.once("close", () => engine.destroy());
    engine.once("close", () => socket.destroy());
  });
  const listen = () => new Promise<void>((resolve) => server.listen(path, resolve));
  const shut = async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  await listen();
  return {
    dockerHost: `unix://${path}`,
    set: async (next) => {
      const was = state;
      state = next;
      if (next === "shut" && was !== "shut") await shut();
      if (next !== "shut" && was === "shut") await listen();
      if (next === "stuck") for (const socket of sockets) socket.unpipe().pause();
    },
    [Symbol.asyncDispose]: async () => {
      if (state !== "shut") await shut();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
