import { type Listening, listen, type RequestFacts } from "../net/listen.ts";
import type { ControlFetch } from "./control/control-env.ts";
import { rawUpgrade } from "./control/raw-upgrade.ts";

/** Serves the control plane to programs of the same user, on a unix socket of mode 0600, unsigned. */
export function serveLocal(app: ControlFetch, socketPath: string): Promise<Listening> {
  return serve(app, { socketPath, mode: 0o600 });
}

/** Serves the signed control plane on 127.0.0.1. Never give it an app that checks no signature. */
export function serveSigned(signedApp: ControlFetch, port: number): Promise<Listening> {
  return serve(signedApp, { host: "127.0.0.1", port });
}

function serve(
  app: ControlFetch,
  where: { socketPath: string; mode: number } | { host: string; port: number },
): Promise<Listening> {
  return listen(
    { fetch: (request: Request, { target }: RequestFacts) => app.fetch(request, { target }) },
    { ...where, onUpgrade: rawUpgrade(app) },
  );
}
