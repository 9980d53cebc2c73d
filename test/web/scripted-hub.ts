import { Hono } from "hono";
import { streamSSE } from "hono/streaming";
import { listen } from "../../src/net/listen.ts";
import type { RunEvent } from "../../src/protocol/run-events.ts";
import { pageApp } from "../../src/web/page-app.tsx";

/** A hub that says what a test tells it to; the page is the real one. */
export interface ScriptedHub extends AsyncDisposable {
  readonly url: string;
  link: object;
  signedIn: boolean;
  /** Log of the one run; each stream sends what it has and waits for more. */
  readonly events: RunEvent[];
  /** `Last-Event-ID` of each stream that was opened. */
  readonly resumed: number[];
  /** Paths and bodies of what was posted. */
  readonly posted: { path: string; body: unknown }[];
  add(type: string, payload?: Record<string, unknown>): void;
  /** Breaks every open stream without a terminal event. */
  cut(): void;
}

export const RUN_ID = "run_1";

export async function scriptedHub(link: object): Promise<ScriptedHub> {
  const events: RunEvent[] = [];
  const wakeups = new Set<() => void>();
  const streams = new Set<{ open: boolean }>();
  const wake = () => {
    for (const wakeup of wakeups) wakeup();
  };
  const state: Omit<ScriptedHub, "url" | typeof Symbol.asyncDispose> = {
    link,
    signedIn: true,
    events,
    resumed: [],
    posted: [],
    add(type, payload = {}) {
      const at = "2026-01-01T00:00:00.000Z";
      events.push({ seq: events.length + 1, runId: RUN_ID, type, at, payload });
      wake();
    },
    cut() {
      for (const stream of streams) stream.open = false;
      wake();
    },
  };
  const app = new Hono()
    .get("/api/links/me", (c) => c.json(state.link))
    .get("/api/runs", (c) => c.json({ runs: [{ runId: RUN_ID, status: "running" }] }))
    .get("/api/runs/:id/events", (c) => {
      if (c.req.param("id") !== RUN_ID)
        return c.json({ title: "No such run", detail: "no such run", fix: "", status: 404 }, 404);
      let last = Number(c.req.header("last-event-id") ?? 0);
      state.resumed.push(last);
      const mine = { open: true };
      streams.add(mine);
      return streamSSE(c, async (stream) => {
        await stream.write(": ping\n\n");
        while (mine.open && !stream.aborted) {
          const event = events[last];
          if (event === undefined) {
            await new Promise<void>((resolve) => {
              wakeups.add(resolve);
              stream.onAbort(resolve);
            });
            continue;
          }
          last = event.seq;
          await stream.writeSSE({ id: `${last}`, event: event.type, data: JSON.stringify(event) });
        }
      });
    })
    .post("*", async (c) => {
      state.posted.push({ path: c.req.path, body: await c.req.json() });
      return c.json({ runId: RUN_ID, status: "queued" }, 202);
    })
    .route("/", pageApp({ signedIn: () => state.signedIn }));
  const listening = await listen(app, { port: 0 });
  return Object.assign(state, {
    url: listening.url,
    async [Symbol.asyncDispose]() {
      state.cut();
      await listening[Symbol.asyncDispose]();
    },
  });
}
