import { hostname } from "node:os";
import { type Config, loadConfig } from "../../src/daemon/config.ts";
import { type RunningDaemon, type StartDaemonOptions, startDaemon } from "../../src/daemon/main.ts";
import { httpRequest } from "../../src/net/http-request.ts";
import { type TestHome, testHome } from "./control-home.ts";
import { madeAheadEnv } from "./made-ahead.ts";

/** A real daemon on a home of its own. */
export interface TestDaemon extends AsyncDisposable {
  readonly daemon: RunningDaemon;
  readonly home: TestHome;
  readonly config: Config;
  /** A request to the unsigned API on the unix socket. */
  local(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }>;
}

export interface TestDaemonOptions extends Partial<StartDaemonOptions> {
  readonly flags?: Record<string, unknown>;
  readonly env?: Record<string, string>;
  /** Called when the home's folders exist, before the daemon starts. */
  readonly prepare?: (home: TestHome) => Promise<void>;
}

export async function testDaemon(
  hubUrl: string,
  options: TestDaemonOptions = {},
): Promise<TestDaemon> {
  const home = await testHome();
  const { flags, env: more, prepare, ...rest } = options;
  const own = { PATH: process.env["PATH"], HOME: home.dir, DECO_TOKEN: "user-token" };
  const env = { ...own, ...madeAheadEnv, ...more };
  await prepare?.(home);
  const config = loadConfig({
    env,
    paths: home.paths,
    flags: { hub: hubUrl, dockerHost: "unix:///nowhere/docker.sock", ...flags },
  });
  const daemon = await startDaemon({ config, ...rest }).catch(async (error: unknown) => {
    await home[Symbol.asyncDispose]();
    throw error;
  });
  return {
    daemon,
    home,
    config,
    local: (method, path, body) => ask(daemon.socketPath, method, path, body),
    async [Symbol.asyncDispose]() {
      await daemon.close();
      await home[Symbol.asyncDispose]();
    },
  };
}

async function ask(socketPath: string, method: string, path: string, body?: unknown) {
  const answer = await httpRequest({
    socketPath,
    method,
    path,
    signal: AbortSignal.timeout(5000),
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  const text = await answer.text();
  return { status: answer.status, body: text === "" ? undefined : (JSON.parse(text) as unknown) };
}

/** This machine as the hub's lists show it. */
export const HERE = { hostname: hostname(), platform: process.platform, arch: process.arch };
