import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { DecoError } from "../protocol/errors.ts";
import { answerProblem } from "./raw-problem.ts";

/** A name or an address, and a port: what can stand in a URL. */
const HOST = /^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:([0-9]{1,5}))?$/;
const MAX_PORT = 65_535;

/**
 * What no app gets to see, since no Request can be made of it.
 *
 * @returns misdirected_request for a Host that is none, invalid_request for a target that is none.
 */
export function malformed({ headers, url = "" }: IncomingMessage): DecoError | undefined {
  const [, , , port] = HOST.exec(headers.host ?? "") ?? [];
  if (!HOST.test(headers.host ?? "") || Number(port ?? 0) > MAX_PORT) {
    return new DecoError("misdirected_request", "the request has no Host that could be ours");
  }
  if (!url.startsWith("/") || (url.split("?", 1)[0] ?? "").includes("\\")) {
    return new DecoError("invalid_request", "the request target is not a path", {
      fix: "Send the path alone, with / between its segments.",
    });
  }
  return undefined;
}

/** Answers what is no HTTP with a problem, too, unless an answer is already under way. */
export function refuseNonsense(server: Server): {
  readonly answering: (response: ServerResponse) => void;
} {
  const busy = new WeakSet<Duplex>();
  const refused = new WeakSet<Duplex>();
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => {
    // One bad head may be told of twice; the answer to it ends the socket.
    if (refused.has(socket)) return;
    if (!socket.writable || error.code === "ECONNRESET" || busy.has(socket)) {
      socket.destroy();
      return;
    }
    refused.add(socket);
    const detail = `not an HTTP/1.1 request that is taken here: ${error.code ?? error.message}`;
    answerProblem(socket, new DecoError("invalid_request", detail, { fix: "Speak HTTP/1.1." }));
  });
  return {
    answering(response) {
      const { socket } = response;
      if (socket === null) return;
      busy.add(socket);
      response.once("close", () => busy.delete(socket));
    },
  };
}
