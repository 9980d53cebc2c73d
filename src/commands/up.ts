import { join } from "node:path";
import type { Config } from "../daemon/config.ts";
import { takeLock } from "../daemon/lock.ts";
import { type RunningDaemon, startDaemon } from "../daemon/main.ts";
import { makePaths, removeShortRuntime } from "../daemon/paths.ts";
import { type RunningHub, startHub } from "../hub/main.ts";
import { DecoError } from "../protocol/errors.ts";
import type { HarnessName, ProviderName } from "../protocol/messages.ts";
import { pageApp, signInFailedPage } from "../web/page-app.tsx";
import type { Command, CommandContext } from "./command.ts";
import { stayWithDaemon } from "./drain.ts";
import { leaveUpSession, localDaemon } from "./home.ts";
import { HUB_PORT } from "./hub.ts";
import { createLog } from "./log.ts";
import { settings } from "./settings.ts";
import { once, untilOnline } from "./up-once.ts";

export interface UpFlags {
  readonly port?: number;
  readonly provider?: ProviderName;
  readonly once?: boolean;
  readonly prompt?: string;
  /** `shell` when absent. */
  readonly harness?: HarnessName;
  readonly allowUnconfined?: boolean;
}

/** The one user of a hub that runs on its user's own machine. */
const OWNER = "owner";
const TOKEN_TTL_SECONDS = 30 * 86_400;
const ONLINE_LIMIT_MS = 30_000;

/** `deco up`: hub and daemon in one process on 127.0.0.1, joined by the real path. */
export function up(flags: UpFlags): Command {
  return async (context) => {
    const startedAt = performance.now();
    checkFlags(flags);
    const config = settings(context.env, {
      provider: flags.provider,
      allowUnconfined: flags.allowUnconfined,
    });
    await makePaths(config.paths);
    // Before anything is opened: the second one on a home leaves with 9.
    await using lock = await takeLock(config.paths);
    await using runtime = { [Symbol.asyncDispose]: () => removeShortRuntime(config.paths) };
    void runtime;
    const log = createLog(context.env, "warn");
    await using hub = await startHub({
      host: "127.0.0.1",
      port: flags.port ?? (flags.once ? 0 : HUB_PORT),
      dataDir: hubData(config),
      page: pageApp,
      signInFailedPage,
      log,
    });
    const hubMs = Math.round(performance.now() - startedAt);
    const token = await hub.userToken({ user: OWNER, ttlSeconds: TOKEN_TTL_SECONDS });
    // Nothing comes after the one run.
    const ahead = flags.once ? { pausePool: 0, warmSandboxes: 0 } : {};
    await using daemon = await startDaemon({
      config: { ...config, ...ahead, hub: hub.url, tunnel: true, userToken: token },
      lock,
      log,
      page: hub.url,
    });
    // Held for its disposal.
    await using session = await leaveUpSession(config.paths, { hub: hub.url, token });
    void session;
    const target = { url: hub.url, token };
    const linkId = await online(context, daemon, target);
    const onlineMs = Math.round(performance.now() - startedAt);
    sayProvider(context, daemon);
    if (!flags.once) return await stay(context, { hub, daemon, config });
    const { harness = "shell", prompt, provider } = flags;
    const { summary, exitCode } = await once(context, {
      hub: target,
      daemon: localDaemon(context.env),
      linkId,
      harness,
      prompt,
      provider,
      startedAt,
      timings: { hubMs, onlineMs },
    });
    await daemon.close();
    context.out.result(
      summary,
      () => `${summary.events} events in ${summary.timings["totalMs"]} ms`,
    );
    return exitCode;
  };
}

/** What would be ignored, or refused only when everything stands. @throws DecoError `usage` */
function checkFlags({ once: isOnce, prompt, harness }: UpFlags): void {
  const lonely = prompt === undefined ? harness && "--harness" : "--prompt";
  if (!isOnce && lonely) {
    throw new DecoError("usage", `${lonely} is for the one run of --once`, {
      fix: "Add --once; or start `deco up` without it, then: deco run -- PROMPT",
    });
  }
  if (prompt?.trim() === "") {
    throw new DecoError("usage", "the prompt is empty", {
      fix: "Give --prompt a text, or leave it out.",
    });
  }
}

function hubData({ paths }: Config): string {
  return join(paths.data, "hub");
}

/** Whichever is first: the link is online at the hub, or the daemon ended with an error. */
async function online(
  { signal }: CommandContext,
  daemon: RunningDaemon,
  hub: { readonly url: string; readonly token: string },
): Promise<string> {
  const stop = new AbortController();
  const limits = { signal: AbortSignal.any([signal, stop.signal]), limitMs: ONLINE_LIMIT_MS };
  const ended = daemon.closed.then(({ error }) => {
    throw error ?? new DecoError("internal", "the daemon ended before it was online");
  });
  try {
    return await Promise.race([untilOnline(hub, limits), ended]);
  } finally {
    stop.abort();
    ended.catch(() => undefined);
  }
}

function sayProvider({ out }: CommandContext, daemon: RunningDaemon): void {
  const { provider, providerReason, providerFix } = daemon.status();
  out.note(`sandboxes: ${provider === undefined ? "none, " : ""}${providerReason}`);
  if (providerFix !== undefined) out.note(`fix: ${providerFix}`);
}

interface Running {
  readonly hub: RunningHub;
  readonly daemon: RunningDaemon;
  readonly config: Config;
}

/** Prints where things are, then runs until a signal, or until the daemon ends by itself. */
async function stay(context: CommandContext, { hub, daemon, config }: Running): Promise<number> {
  const { out } = context;
  const page = `${hub.url}/sign-in?code=${hub.loginCode(OWNER)}`;
  const { provider = null, providerReason } = daemon.status();
  out.event({ type: "up", page, url: hub.url, port: hub.port, provider, providerReason }, () =>
    [
      `${out.bold("page")}:  ${page}`,
      `       (good once, for a minute; another: deco hub token --login --user ${OWNER} --data ${hubData(config)})`,
      `${out.bold("next")}:  deco run -- 'uname -a'`,
      "       deco run --harness claude-code -- 'write a haiku into haiku.txt'",
      "       deco status, deco runs ls, deco doctor",
      out.dim("from a checkout: npm run deco -- run -- 'uname -a'"),
      out.dim(`Ctrl-C leaves: runs get ${config.drainSeconds} s to end, threads keep their files`),
    ].join("\n"),
  );
  return await stayWithDaemon(context, daemon);
}
