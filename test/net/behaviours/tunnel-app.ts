import type { TunnelHandler } from "../../../src/net/tunnel-serve.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import { type Counter, chunks, countBytes } from "./support.ts";
import { never } from "./tunnel-pair.ts";

export const GET = { method: "GET", path: "/", headers: {}, signal: never } as const;

/** What the laptop's app does in these tests. */
export function app(state: { sent?: Counter; aborted?: unknown } = {}): TunnelHandler {
  return async (request, { upgrade }) => {
    const url = new URL(request.url);
    request.signal.addEventListener("abort", () => {
      state.aborted = request.signal.reason;
    });
    switch (url.pathname) {
      case "/raw": {
        const socket = upgrade?.({ headers: {} });
        socket?.pipe(socket);
        return new Response(null);
      }
      case "/echo": {
        const headers = new Headers({ "x-saw": request.headers.get("x-a") ?? "" });
        headers.append("set-cookie", "a=1");
        headers.append("set-cookie", "b=2");
        headers.set("transfer-encoding", "chunked");
        const line = `${request.method} ${url.pathname}${url.search} ${await request.text()}`;
        return new Response(line, { status: 418, headers });
      }
      case "/sink":
        return new Response(String(await countBytes(request.body)));
      case "/blob":
        return new Response(chunks(Number(url.searchParams.get("n")), state.sent));
      case "/hang":
        return new Promise<Response>(() => undefined);
      case "/throw":
        throw new DecoError("sandbox_not_found", "no sandbox s");
      case "/break":
        return new Response(
          new ReadableStream({
            async start(controller) {
              controller.enqueue(new Uint8Array(3));
              await new Promise((resolve) => setTimeout(resolve, 20));
              controller.error(new DecoError("storage_failed", "disk"));
            },
          }),
        );
      case "/ignore":
        return new Response("early");
      default:
        return new Response("ok");
    }
  };
}
