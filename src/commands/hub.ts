import { join } from "node:path";
import { resolvePaths } from "../daemon/paths.ts";
import { startHub } from "../hub/main.ts";
import { pageApp, signInFailedPage } from "../web/page-app.tsx";
import type { Command } from "./command.ts";
import { checkUrl } from "./home.ts";
import { createLog } from "./log.ts";
import { untilAborted } from "./until-aborted.ts";

export interface HubFlags {
  readonly host?: string;
  readonly port?: number;
  readonly data?: string;
  readonly publicUrl?: string;
}

/** Port of the hub when none is named. */
export const HUB_PORT = 4000;

/** `deco hub`: a hub in the foreground. */
export function hub(flags: HubFlags): Command {
  return async ({ env, out, signal }) => {
    const paths = resolvePaths({ env });
    const publicUrl = flags.publicUrl ?? env["DECO_PUBLIC_URL"];
    const running = await startHub({
      host: flags.host ?? "127.0.0.1",
      port: flags.port ?? HUB_PORT,
      dataDir: flags.data ?? join(paths.data, "hub"),
      page: pageApp,
      signInFailedPage,
      allowLocalhostLinks: env["DECO_ALLOW_LOCALHOST_LINKS"] === "1",
      log: createLog(env),
      ...(publicUrl ? { publicUrl: checkUrl(publicUrl) } : {}),
    });
    try {
      out.event(
        { type: "hub.listening", url: running.url, port: running.port },
        () => `hub: ${running.url}`,
      );
      out.note("a sign-in code for its page: deco hub token --data DIR --login");
      await untilAborted(signal);
      return 0;
    } finally {
      await running.close();
    }
  };
}
