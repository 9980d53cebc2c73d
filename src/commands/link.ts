import type { SettingName } from "../daemon/config.ts";
import { startDaemon } from "../daemon/main.ts";
import { DecoError } from "../protocol/errors.ts";
import type { Command } from "./command.ts";
import { stayWithDaemon } from "./drain.ts";
import { createLog } from "./log.ts";
import { settings } from "./settings.ts";

export interface LinkFlags {
  readonly hub?: string;
  readonly port?: number;
  /** `false` for --no-tunnel; the kind of tunnel for --tunnel KIND; `true` or absent otherwise. */
  readonly tunnel?: boolean | string;
  readonly localSandboxProvider?: string;
  readonly maxRuns?: number;
  readonly drainSeconds?: number;
  readonly keepSandboxes?: number;
  readonly idleMinutes?: number;
  readonly pausePool?: number;
  readonly warmSandboxes?: number;
  readonly warmMemoryMib?: number;
  readonly name?: string;
  readonly allowUnconfined?: boolean;
  readonly insecure?: boolean;
  readonly dockerHost?: string;
  readonly logLevel?: string;
}

/** `deco link`: the daemon in the foreground, until a signal or until the hub refuses it for good. */
export function link(flags: LinkFlags): Command {
  return async ({ env, out, signal }) => {
    const config = settings(env, settingsOf(flags));
    if (config.hub === undefined)
      throw new DecoError("usage", "which hub?", { fix: "Run: deco link --hub URL" });
    const log = createLog({ ...env, DECO_LOG_LEVEL: config.logLevel });
    // Not under a service manager only when somebody looks at it.
    const service = env["DECO_SERVICE"] === "1" || env["INVOCATION_ID"] !== undefined;
    await using daemon = await startDaemon({ config, log, service });
    const sayOnline = async () => {
      await daemon.ready;
      const { linkId, name, provider = null, providerReason } = daemon.status();
      const online = { type: "link.online", hub: config.hub, linkId, name, provider };
      out.event(online, () => `online at ${config.hub} as ${name} (${providerReason})`);
    };
    // Why it was never online is what `closed` says.
    sayOnline().catch(() => undefined);
    return await stayWithDaemon({ out, signal }, daemon);
  };
}

/** Flags by the daemon's own names. */
function settingsOf(flags: LinkFlags): { readonly [K in SettingName]?: unknown } {
  const { localSandboxProvider: provider, tunnel: kind, ...named } = flags;
  // commander sets `tunnel: true` when neither flag is given.
  const tunnel = kind === false ? false : typeof kind === "string" || undefined;
  return { ...named, tunnel, provider };
}
