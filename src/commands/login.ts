import { spawn } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { loadConfig } from "../daemon/config.ts";
import { writeSession } from "../daemon/credentials.ts";
import { makePaths } from "../daemon/paths.ts";
import { httpRequest } from "../net/http-request.ts";
import { DecoError } from "../protocol/errors.ts";
import type { Command, CommandContext } from "./command.ts";
import { checkUrl } from "./home.ts";
import { printable } from "./output.ts";

const Started = z.object({
  device_code: z.string(),
  user_code: z.string(),
  verification_uri: z.string(),
  verification_uri_complete: z.string().optional(),
  expires_in: z.number(),
  /** Seconds between polls; RFC 8628 says 5 when absent. */
  interval: z.number().default(5),
});
const Granted = z.object({ access_token: z.string() });
const Refused = z.object({ error: z.string() });

const GRANT = "urn:ietf:params:oauth:grant-type:device_code";
const CLIENT_ID = "deco-cli";

/** `deco login`: device flow (RFC 8628); stores the session (0600). */
export function login(flags: { readonly hub?: string; readonly insecure?: boolean }): Command {
  return async (context) => {
    const { env, out, signal } = context;
    const config = loadConfig({ env, flags });
    if (config.hub === undefined)
      throw new DecoError("usage", "which hub?", { fix: "Run: deco login --hub URL" });
    const hub = checkUrl(config.hub);
    refusePlainHttp(hub, config.insecure);
    const started = Started.parse(
      await post(hub, "/oauth/device_authorization", { client_id: CLIENT_ID }, signal),
    );
    const page = started.verification_uri_complete ?? started.verification_uri;
    out.note(`open ${printable(page)}\nand approve the code ${printable(started.user_code)}`);
    openBrowser(context, page);
    const token = await poll(hub, started, signal);
    await makePaths(config.paths);
    await writeSession(config.paths.sessionFile, hub, { token });
    out.result({ ok: true, hub }, () => `signed in to ${hub}`);
    out.note("next: deco link");
    return 0;
  };
}

async function poll(
  hub: string,
  started: z.infer<typeof Started>,
  signal: AbortSignal,
): Promise<string> {
  const body = { grant_type: GRANT, device_code: started.device_code, client_id: CLIENT_ID };
  const deadline = performance.now() + started.expires_in * 1000;
  let intervalMs = started.interval * 1000;
  while (performance.now() < deadline) {
    // A little more than asked for: a timer that is early by a ms would be told to slow down.
    await delay(intervalMs + 50, undefined, { signal });
    const answer = await post(hub, "/oauth/token", body, signal);
    const granted = Granted.safeParse(answer);
    if (granted.success) return granted.data.access_token;
    const refused = Refused.safeParse(answer);
    const error = refused.success ? refused.data.error : "no answer of ours";
    if (error === "slow_down") intervalMs += 5000;
    else if (error === "access_denied" || error === "expired_token")
      throw new DecoError(error, "the sign-in ended without a token");
    else if (error !== "authorization_pending")
      throw new DecoError("unauthorized", `the hub refused: ${printable(error)}`);
  }
  throw new DecoError("expired_token", "nobody approved the code in time");
}

/** A form, as RFC 6749 has it. Gives the JSON answer of status 200 and 400 alike. */
async function post(
  hub: string,
  path: string,
  form: Record<string, string>,
  signal: AbortSignal,
): Promise<unknown> {
  const answer = await httpRequest({
    url: `${hub.replace(/\/+$/, "")}${path}`,
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded", accept: "application/json" },
    body: new URLSearchParams(form).toString(),
    signal,
    headersTimeoutMs: 30_000,
    unreachable: "hub_unreachable",
  });
  if (answer.status !== 200 && answer.status !== 400)
    throw new DecoError("hub_unreachable", `${hub}${path} answered ${answer.status}`);
  return answer.json(64 * 1024);
}

/** Off loopback a token goes over https only. */
function refusePlainHttp(hub: string, insecure: boolean): void {
  const { protocol, hostname } = new URL(hub);
  if (protocol === "https:" || insecure) return;
  if (["localhost", "127.0.0.1", "[::1]"].includes(hostname)) return;
  throw new DecoError("usage", `${hub} is not encrypted`, {
    fix: "Use https, or --insecure on a network that you trust.",
  });
}

/** In a terminal with a desktop only; never an error. Only http(s) goes to the opener. */
function openBrowser({ env, out }: CommandContext, page: string): void {
  const desktop = process.platform === "darwin" || env["DISPLAY"] || env["WAYLAND_DISPLAY"];
  if (out.json || !process.stdout.isTTY || !desktop || !/^https?:\/\//.test(page)) return;
  const opener = process.platform === "darwin" ? "open" : "xdg-open";
  const child = spawn(opener, [page], { stdio: "ignore", detached: true });
  child.on("error", () => undefined);
  child.unref();
}
