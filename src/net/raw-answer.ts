import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { pumpBody } from "./http-body.ts";
import { passingHeaders } from "./tunnel-headers.ts";

/** What an upgrade was answered with, by a tunnel or by a server. */
export interface UpgradeAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly socket?: Duplex;
  readonly body: ReadableStream<Uint8Array>;
}

/**
 * Passes the answer to an upgrade on to a raw client socket: the head, then bytes both ways until
 * both sides are through (or, when the status is not 101, the body and a close).
 *
 * @param head what the client sent behind its own head already
 */
export async function answerUpgrade(
  client: Duplex,
  answer: UpgradeAnswer,
  head: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const { status, socket, body } = answer;
  const upgraded = status === 101 && socket !== undefined;
  const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`];
  for (const [name, value] of passingHeaders(answer.headers, upgraded))
    lines.push(`${name}: ${value}`);
  if (!upgraded) lines.push("connection: close");
  client.write(`${lines.join("\r\n")}\r\n\r\n`);
  if (!upgraded) {
    await pumpBody(body, client, signal);
    return;
  }
  if (head.byteLength > 0) client.unshift(head);
  await splice(client, socket);
}

/** Joins two raw streams until both are closed; half-closes pass, and one's death ends the other. */
export function splice(one: Duplex, other: Duplex): Promise<void> {
  return new Promise((resolve) => {
    let open = 2;
    const closed = () => {
      one.destroy();
      other.destroy();
      open--;
      if (open === 0) resolve();
    };
    for (const stream of [one, other]) {
      stream.on("error", () => stream.destroy());
      if (stream.destroyed) closed();
      else stream.once("close", closed);
    }
    one.pipe(other);
    other.pipe(one);
  });
}
