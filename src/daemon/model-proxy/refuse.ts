import type { ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { DecoError, ErrorCode } from "../../protocol/errors.ts";

/** What the services call such errors; SDKs show `error.message`. */
const KINDS: Partial<Record<ErrorCode, string>> = {
  unauthorized: "authentication_error",
  model_refused: "permission_error",
  model_budget: "rate_limit_error",
  body_too_large: "request_too_large",
};

/**
 * A problem document that is also an error as both SDKs read it (`type: "error"` can't be, since
 * `type` is the problem's; both go by the status and `error.message`).
 */
function refusal(error: DecoError): { status: number; body: string } {
  const { status } = error.info;
  const message = `${error.message} (${error.code}). ${error.fix}`;
  const kind = KINDS[error.code] ?? "api_error";
  const document = { ...error.toProblem(), error: { type: kind, code: error.code, message } };
  return { status, body: JSON.stringify(document) };
}

/** Answers by a refusal; when an answer has begun already, breaks it off. */
export function refuse(response: ServerResponse, error: DecoError): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const { status, body } = refusal(error);
  const retryAfter = error.extensions["retryAfterSeconds"];
  const retry =
    typeof retryAfter === "number"
      ? { "retry-after": String(retryAfter) }
      : // Both SDKs heed it: what is used up or forbidden doesn't change by asking again.
        error.info.retryable
        ? {}
        : { "x-should-retry": "false" };
  response.writeHead(status, {
    "content-type": "application/problem+json",
    "content-length": Buffer.byteLength(body),
    ...retry,
  });
  response.end(body);
}

/** The same for CONNECT and Upgrade, where there is a bare socket. */
export function refuseSocket(socket: Duplex, error: DecoError): void {
  const { status, body } = refusal(error);
  socket.on("error", () => socket.destroy());
  socket.end(
    `HTTP/1.1 ${status} Refused\r\ncontent-type: application/problem+json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
