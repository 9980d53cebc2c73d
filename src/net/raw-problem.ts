import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { DecoError } from "../protocol/errors.ts";

/** Answers on a bare socket with a problem document, then closes it. */
export function answerProblem(socket: Duplex, error: DecoError): void {
  const { status } = error.info;
  const body = JSON.stringify(error.toProblem());
  socket.once("finish", () => socket.destroy());
  socket.end(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Refused"}`,
      "content-type: application/problem+json",
      `content-length: ${Buffer.byteLength(body)}`,
      "connection: close",
      "",
      body,
    ].join("\r\n"),
  );
}
