import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** What stands between daemon and hub answers: nothing wrong, a page with a status, or never. */
export type ProxyMood = "pass" | "hang" | { readonly status: number; readonly page: string };

/** A proxy in front of a hub whose mood changes; those that are connected stay as they were. */
export async function moodyProxy(target: () => number) {
  const sockets = new Set<Socket>();
  let mood: ProxyMood = "pass";
  const server = createServer((near) => {
    keep(near);
    if (mood === "pass") {
      const far = connect(target(), "127.0.0.1");
      keep(far);
      near.pipe(far).pipe(near);
      near.once("close", () => far.destroy());
      far.once("close", () => near.destroy());
    } else if (mood !== "hang") {
      const { status, page } = mood;
      const type = "content-type: text/html\r\nconnection: close\r\n";
      const head = `HTTP/1.1 ${status} Sorry\r\n${type}content-length: ${page.length}\r\n\r\n`;
      near.once("data", () => near.end(head + page));
    }
  });
  function keep(socket: Socket): void {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
  }
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    port: address.port,
    /** From now on; with `cut` what is connected breaks. */
    become(next: ProxyMood, o: { readonly cut: boolean }) {
      mood = next;
      if (o.cut) cut();
    },
    async [Symbol.asyncDispose]() {
      cut();
      await new Promise((done) => server.close(done));
    },
  };
}
