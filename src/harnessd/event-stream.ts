import { once } from "node:events";
import type { ServerResponse } from "node:http";
import type { EventLog } from "./event-log.ts";
import type { LogLine } from "./log-lines.ts";

export interface EventStreamOptions {
  readonly runId: string;
  readonly log: EventLog;
  /** The last number the reader has; -1 for none. */
  readonly after: number;
  readonly response: ServerResponse;
  readonly pingMs?: number;
}

/**
 * Answers with a run's events as SSE: headers at once, a comment every 15 s of silence, closed
 * behind the terminal event. A slow reader is waited for; meanwhile its events stay on disk.
 */
export async function streamEvents(options: EventStreamOptions): Promise<void> {
  const { response, log, after, runId } = options;
  response.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  });
  response.flushHeaders();
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  response.once("error", () => gone.abort());
  const ping = setInterval(() => {
    if (!response.writableNeedDrain) response.write(": ping\n\n");
  }, options.pingMs ?? 15_000);
  try {
    for await (const lines of log.read(after, gone.signal)) {
      const text = lines.map((line) => frame(runId, line)).join("");
      if (!response.write(text)) await once(response, "drain", { signal: gone.signal });
    }
    response.end();
  } catch (error) {
    if (!gone.signal.aborted) response.destroy(error instanceof Error ? error : undefined);
  } finally {
    clearInterval(ping);
  }
}

function frame(runId: string, line: LogLine): string {
  return `id: ${runId}:${line.seq}\nretry: 3000\nevent: ${line.type}\ndata: ${line.data}\n\n`;
}
