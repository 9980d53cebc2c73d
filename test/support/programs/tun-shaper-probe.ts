import { once } from "node:events";
import { connect, createServer } from "node:net";

/**
 * What plain TCP makes of a line: `serve HOST PORT` at its far end, `ask HOST PORT BYTES` at the near
 * one, which prints `{rttMs, bytesPerSecond}`: the median of some round trips, and one way's rate.
 */
const [what = "", host = "", port = "0", bytes = "0"] = process.argv.slice(2);
const CHUNK = 65_536;
const ROUNDS = 5;

if (what === "serve") {
  // One byte is answered at once; all else is swallowed until the end, and then answered.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.setNoDelay(true).on("error", () => socket.destroy());
    socket.on("data", (chunk) => {
      if (chunk.length === 1) socket.write(chunk);
    });
    socket.on("end", () => socket.end("!"));
  });
  server.listen(Number(port), host);
  await once(server, "listening");
  process.stdout.write("ready\n");
} else {
  const socket = connect(Number(port), host);
  socket.setNoDelay(true);
  await once(socket, "connect");
  const trips: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const startedAt = performance.now();
    socket.write("?");
    await once(socket, "data");
    trips.push(performance.now() - startedAt);
  }
  const rttMs = trips.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0;
  const startedAt = performance.now();
  for (let sent = 0; sent < Number(bytes); sent += CHUNK) {
    if (!socket.write(Buffer.alloc(CHUNK))) await once(socket, "drain");
  }
  socket.end();
  await once(socket, "data");
  const bytesPerSecond = (Number(bytes) / (performance.now() - startedAt)) * 1000;
  process.stdout.write(`${JSON.stringify({ rttMs, bytesPerSecond })}\n`);
  process.exit(0);
}
