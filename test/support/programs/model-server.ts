// The scripted model server as a program: `bun test/support/programs/model-server.ts [port|socket]`.
// Prints one line of JSON when it listens; every request as one line behind it.
import { startModelServer } from "../model-server.ts";

const where = process.argv[2] ?? "0";
const server = await startModelServer(
  where.startsWith("/") ? { socketPath: where } : { port: Number(where) },
);
process.stdout.write(`${JSON.stringify({ ready: true, url: server.url, port: server.port })}\n`);
let shown = 0;
const show = setInterval(() => {
  for (const { method, path, headers } of server.requests.slice(shown)) {
    process.stdout.write(`${JSON.stringify({ method, path, headers })}\n`);
    shown += 1;
  }
}, 200);
process.once("SIGTERM", () => {
  clearInterval(show);
  void server[Symbol.asyncDispose]();
});
