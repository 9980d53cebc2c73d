import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { headersOf } from "../../net/http-request.ts";
import type { ControlFetch, UpgradeHead } from "./control-env.ts";

/**
 * Lets a control plane that stands on a socket of its own (`--no-tunnel`, the unix socket) take
 * WebSocket upgrades, which never reach a server's `fetch`.
 */
export function rawUpgrade(app: ControlFetch) {
  return (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    void answer(app, request, socket, head).catch(() => socket.destroy());
  };
}

async function answer(
  app: ControlFetch,
  message: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const gone = new AbortController();
  socket.once("close", () => gone.abort());
  const request = new Request(new URL(message.url ?? "/", "http://localhost").href, {
    method: message.method ?? "GET",
    headers: headersOf(message.rawHeaders),
    signal: gone.signal,
  });
  let upgraded = false;
  const response = await app.fetch(request, {
    target: message.url,
    tunnelUpgrade: (answerHead) => {
      upgraded = true;
      if (head.length > 0) socket.unshift(head);
      socket.write(headOf("101 Switching Protocols", answerHead.headers));
      return socket;
    },
  });
  if (upgraded) return;
  const body = Buffer.from(await response.arrayBuffer());
  const headers = new Headers(response.headers);
  headers.set("content-length", String(body.length));
  headers.set("connection", "close");
  socket.end(Buffer.concat([Buffer.from(headOf(`${response.status} -`, headers)), body]));
}

function headOf(status: string, headers: UpgradeHead["headers"]): string {
  const fields = [...headers].map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status}\r\n${fields.join("")}\r\n`;
}
