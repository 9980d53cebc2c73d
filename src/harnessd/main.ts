#!/usr/bin/env node
import { claudeAdapter } from "./adapters/claude-code.ts";
import { shellAdapter } from "./adapters/shell.ts";
import { createApp } from "./app.ts";
import { takeToken, tokenCheck } from "./auth.ts";
import { type HarnessdConfig, readConfig } from "./config.ts";
import { ModelForwarder } from "./model-forwarder.ts";
import { Runs } from "./runs.ts";
import { startServer } from "./server.ts";

/** Longest wait for the ends of runs when told to stop; then the process ends anyway. */
const STOP_WITHIN_MS = 11_000;
/** How long readers get for the terminal events before their connections are closed. */
const READERS_MS = 300;

async function main(config: HarnessdConfig): Promise<void> {
  // The token first: nothing is started, not even a listener, while it lies on disk.
  const token = await takeToken(config.tokenFile, config.allowUnauthenticated);
  const { authorize, replace } = tokenCheck(token);
  const forwarder = new ModelForwarder(config.modelUpstream);
  const adapters = [shellAdapter(), claudeAdapter({ path: config.baseEnv["PATH"] ?? "" })];
  const runs = await Runs.open({
    dataDir: config.dataDir,
    workspace: config.workspace,
    baseEnv: config.baseEnv,
    adapters: new Map(adapters.map((adapter) => [adapter.name, adapter])),
    maxLogBytes: config.maxLogBytes,
    sweep: config.sweep,
    modelBaseUrl: () => forwarder.baseUrl(),
  });
  const { address, socketPath, socketUid } = config;
  const server = await startServer({
    app: createApp({ runs, adapters, authorize, replace, workspace: config.workspace }),
    authorize,
    ...(address ? { address } : {}),
    ...(socketPath === undefined ? {} : { socketPath }),
    ...(socketUid === undefined ? {} : { socketUid }),
  });
  const stop = async () => {
    setTimeout(() => process.exit(1), STOP_WITHIN_MS).unref();
    await runs.cancelAll();
    await new Promise((resolve) => setTimeout(resolve, READERS_MS));
    await server[Symbol.asyncDispose]();
    await forwarder[Symbol.asyncDispose]();
    await runs[Symbol.asyncDispose]();
    process.exit(0);
  };
  process.once("SIGTERM", () => void stop());
  process.once("SIGINT", () => void stop());
  const ready = { ready: true, url: server.url, socketPath: server.socketPath, pid: process.pid };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
}

function fail(error: unknown): void {
  process.stderr.write(`harnessd: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

// No top-level await: the compiled program's bytecode can't have one.
Promise.resolve()
  .then(() => main(readConfig(process.env)))
  .catch(fail);
