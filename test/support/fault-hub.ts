import { startHub } from "../../src/hub/main.ts";

/**
 * A hub as a process of its own whose heartbeats are as short as its test wants them:
 * `bun fault-hub.ts PORT DATA HEARTBEAT_MS TTL_MS`. Says its address on stdout, ends by SIGTERM.
 */
const [port = "0", dataDir = "", heartbeatMs = "1000", ttlMs = "3000"] = process.argv.slice(2);
const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };
const hub = await startHub({
  port: Number(port),
  dataDir,
  log: quiet,
  heartbeatIntervalMs: Number(heartbeatMs),
  ttlMs: Number(ttlMs),
});
process.on("SIGTERM", () => {
  void hub.close().then(() => process.exit(143));
});
process.stdout.write(`${JSON.stringify({ type: "hub.listening", url: hub.url })}\n`);
