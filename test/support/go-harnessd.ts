import { readFile } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import { join } from "node:path";

export interface GoHarnessdOptions {
  /** Name of a capture in test/data/harnessd. */
  readonly capture: string;
  /** Events sent on the n-th connection before it is cut, in the middle of the next frame. */
  readonly cutAfter?: readonly number[];
  /** Numbers left out on the first connection, as the Go program does under load. */
  readonly dropOnce?: readonly number[];
  /** Numbers left out always. */
  readonly dropAlways?: readonly number[];
  /** Status that the first connections get in the place of a stream. */
  readonly refuse?: readonly number[];
}

export interface GoHarnessd extends AsyncDisposable {
  readonly url: string;
  readonly runId: string;
  /** Frames of the capture. */
  readonly frames: readonly string[];
  /** `Last-Event-ID` of each events request, in order. */
  readonly resumes: (string | undefined)[];
}

const read = (name: string) =>
  readFile(join(import.meta.dir, "..", "data", "harnessd", name), "utf8");

/**
 * Plays a capture of the public Go harnessd with its manners: no heartbeats, headers only with the
 * first event, and silence for ever after a resume at the end of a finished run.
 */
export async function goHarnessd(o: GoHarnessdOptions): Promise<GoHarnessd> {
  const frames = (await read(`${o.capture}.sse`)).split("\n\n").filter((f) => f.includes("data:"));
  const run = await read(`${o.capture}.run.json`);
  const runId = /"id":"([^"]+)"/.exec(run)?.[1] ?? "";
  const resumes: (string | undefined)[] = [];

  const stream = (response: ServerResponse, resume: string | undefined) => {
    const connection = resumes.push(resume) - 1;
    const refused = o.refuse?.[connection];
    if (refused !== undefined) {
      response.writeHead(refused, { "content-type": "text/html" }).end("<h1>Bad Gateway</h1>");
      return;
    }
    const from = resume === undefined ? 0 : Number(resume.split(":").at(-1)) + 1;
    const cut = o.cutAfter?.[connection] ?? frames.length;
    const dropped = [...(o.dropAlways ?? []), ...(connection === 0 ? (o.dropOnce ?? []) : [])];
    const sent = frames.slice(from).filter((_, i) => !dropped.includes(from + i));
    if (sent.length === 0) return;
    response.writeHead(200, { "content-type": "text/event-stream" });
    const bytes = Buffer.from(
      sent
        .slice(0, cut)
        .map((frame) => `${frame}\n\n`)
        .join(""),
    );
    for (let at = 0; at < bytes.length; at += 61) response.write(bytes.subarray(at, at + 61));
    if (cut >= sent.length) response.end();
    else response.write((sent[cut] ?? "").slice(0, 40), () => response.destroy());
  };

  const server = createServer((request, response) => {
    const { url = "", headers } = request;
    const last = headers["last-event-id"];
    const authorized = headers.authorization === "Bearer token";
    if (!authorized) {
      response.writeHead(401).end('{"error":{"code":"unauthorized","message":"no"}}');
    } else if (url === `/v1/runs/${runId}/events`) {
      stream(response, typeof last === "string" ? last : undefined);
    } else if (url === `/v1/runs/${runId}`) {
      response.setHeader("content-type", "application/json").end(run);
    } else if (url === "/healthz") {
      response.end('{"status":"ok"}');
    } else {
      response.writeHead(404).end('{"error":{"code":"not_found","message":"run not found"}}');
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  return {
    url: `http://127.0.0.1:${port}`,
    runId,
    frames,
    resumes,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
