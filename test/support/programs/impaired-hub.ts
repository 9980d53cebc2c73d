import { connect as connectTcp, createServer } from "node:net";
import { startHub } from "../../../src/hub/main.ts";

/**
 * A hub in a network of its own: `bun impaired-hub.ts HOST PORT DATA SOCKET HEARTBEAT_MS TTL_MS`. The
 * unix socket is a door to it for who stands outside that network, past every impairment.
 */
const [host = "", port = "0", dataDir = "", socketPath = "", beat = "1000", ttl = "3000"] =
  process.argv.slice(2);
const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };
const hub = await startHub({
  host,
  port: Number(port),
  dataDir,
  publicUrl: `http://${host}:${port}`,
  log: quiet,
  heartbeatIntervalMs: Number(beat),
  ttlMs: Number(ttl),
});
const door = createServer((near) => {
  const far = connectTcp(hub.port, host);
  for (const socket of [near, far]) socket.on("error", () => [near, far].map((s) => s.destroy()));
  near.pipe(far).pipe(near);
});
door.listen(socketPath, () =>
  process.stdout.write(`${JSON.stringify({ type: "hub.listening" })}\n`),
);
process.on("SIGTERM", () => {
  void hub.close().then(() => process.exit(143));
});
