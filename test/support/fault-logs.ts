import { expect } from "bun:test";
import type { RunReader } from "./fault-reader.ts";
import { firstDifference } from "./fault-text.ts";
import { runDeco } from "./run-deco.ts";

/** A home whose `deco` asks this hub. */
export interface LogsFrom {
  readonly home: string;
  readonly url: string;
  readonly token: string;
}

/** What `deco runs logs ID --json` prints. */
export async function printedLogs({ home, url, token }: LogsFrom, runId: string): Promise<string> {
  const env = { DECO_TOKEN: token, DECO_HUB: url };
  const { code, stdout } = await runDeco(["runs", "logs", runId, "--json"], { home, env });
  expect(code).toBe(0);
  return stdout;
}

/** `deco runs logs` prints the very bytes that the reader was given before, in and after the fault. */
export async function expectLogged(from: LogsFrom, { events, raw }: RunReader): Promise<void> {
  const printed = await printedLogs(from, events[0]?.runId ?? "");
  expect(firstDifference(printed, raw.map((line) => `${line}\n`).join(""))).toBeUndefined();
}
