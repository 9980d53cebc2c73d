import { join } from "node:path";
import { loadConfig } from "../daemon/config.ts";
import { takeLock } from "../daemon/lock.ts";
import { startDaemon } from "../daemon/main.ts";
import { makePaths } from "../daemon/paths.ts";
import { startHub } from "../hub/main.ts";
import { DecoError } from "../protocol/errors.ts";
import type { HarnessName, ProviderName } from "../protocol/messages.ts";
import type { Command, CommandContext } from "./command.ts";
import { leaveUpSession, localDaemon } from "./home.ts";
import { HUB_PORT } from "./hub.ts";
import { hubPage } from "./hub-page.ts";
import { createLog } from "./log.ts";
import { textOf } from "./record.ts";
import { askStatus } from "./status.ts";
import { once, untilOnline } from "./up-once.ts";

export interface UpFlags {
  readonly port?: number;
  readonly provider?: ProviderName;
  readonly once?: boolean;
  readonly prompt?: string;
  readonly harness: HarnessName;
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
    const { env } = context;
    const config = loadConfig({
      env,
      flags: { provider: flags.provider, allowUnconfined: flags.allowUnconfined },
    });
    await makePaths(config.paths);
    // Before anything is opened: the second one on a home leaves with 9.
    await using lock = await takeLock(config.paths);
    const log = createLog(env, "warn");
    await using hub = disposable(
      await startHub({
        host: "127.0.0.1",
        port: flags.port ?? (flags.once ? 0 : HUB_PORT),
        dataDir: join(config.paths.data, "hub"),
        page: hubPage,
        log,
      }),
    );
    const hubMs = since(startedAt);
    const token = await hub.userToken({ user: OWNER, ttlSeconds: TOKEN_TTL_SECONDS });
    await using daemon = disposable(
      await startDaemon({ config: { ...config, hub: hub.url, userToken: token }, lock, log }),
    );
    await using _session = await leaveUpSession(config.paths, { hub: hub.url, token });
    const target = { url: hub.url, token };
    const limits = { signal: context.signal, limitMs: ONLINE_LIMIT_MS };
    const linkId = await ended(daemon, untilOnline(target, limits));
    return 0;
  };
}
