/** Makes a sandbox, runs one command in it and removes it; prints one JSON line. Runs on Node, too. */
import { harnessClient } from "../../../src/sandbox/harness-client.ts";
import { createProviders } from "../../../src/sandbox/providers.ts";

const [name = "process", runRoot = "", cacheDir = "", mode = "", command] = process.argv.slice(2);
const allowUnconfined = mode === "unconfined";
const log = { debug() {}, info() {}, warn() {} };
const instanceId = `once${process.pid}`;
const signal = AbortSignal.timeout(60_000);
const provider = createProviders({ instanceId, runRoot, cacheDir, log, allowUnconfined }).get(
  name === "docker" ? "docker" : "process",
);
if (provider === undefined) throw new Error("no provider");

const probe = await provider.probe(signal);
const context = { instanceId, onStage() {} };
const info = await provider.ensure("once", {}, context, signal).catch((thrown: unknown) => {
  console.log(JSON.stringify({ probe, refused: thrown }));
  process.exit(0);
});
const client = harnessClient(await provider.endpoint("once", signal));
const { runId } = await client.createRun(
  { prompt: command ?? "echo from $0; id -u", harness: "shell" },
  signal,
);
let output = "";
for await (const event of client.events(runId, {}, signal)) {
  if (event.type === "tool.output.delta") output += String(event.payload["content"]);
}
await client.createRun({ prompt: "setsid sleep 600 & sleep 600" }, signal);
while ((await provider.processesLeft("once", signal)) < 2) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}
const left = await provider.killProcesses("once", signal);
await provider.remove("once", signal);
const gone = (await provider.inspect("once", signal)) === undefined;
await provider.close?.(signal);
console.log(
  JSON.stringify({ probe, confined: info.confined, status: info.status, output, left, gone }),
);
