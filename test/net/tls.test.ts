import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { httpRequest } from "../../src/net/http-request.ts";
import { upgradeToTunnel } from "../../src/net/tunnel-accept.ts";
import { dialTunnel } from "../../src/net/tunnel-dial.ts";
import { portOf, rejects } from "./behaviours/support.ts";

const never = new AbortController().signal;
const OPENSSL = "openssl"; // on every system that we test on
const handler = () => new Response("through TLS");

/** A server with a certificate that nobody's defaults trust. */
async function tlsServer() {
  const dir = await mkdtemp(join(tmpdir(), "deco-tls-"));
  const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const args = ["req", "-x509", ...curve, "-keyout", key, "-out", cert, "-days", "2", ...subject];
  execFileSync(OPENSSL, args, { stdio: "ignore" });
  const ca = await readFile(cert, "utf8");
  const server = createServer({ key: await readFile(key), cert: ca }, (_request, response) => {
    response.end("secret");
  });
  await rm(dir, { recursive: true, force: true });
  server.on("upgrade", (request, socket, head) => {
    void (async () => {
      const peer = await upgradeToTunnel(request, socket, head);
      const answer = await peer.request({ method: "GET", path: "/", headers: {}, signal: never });
      peer.close(4000, await new Response(answer.body).text());
    })();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    ca,
    url: `https://localhost:${portOf(server)}/`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

test("a request to a server whose certificate nobody vouches for is refused before it is sent", async () => {
  await using server = await tlsServer();
  const error = await rejects(httpRequest({ url: server.url, signal: never }));
  expect(error.code).toBe("unavailable");
  expect(error.message).toMatch(/certificate/i);
});

test("a tunnel over TLS stands with a trusted certificate and not without", async () => {
  await using server = await tlsServer();
  const options = { url: server.url, headers: {}, signal: never };
  expect((await rejects(dialTunnel({ ...options, handler }))).code).toBe("hub_unreachable");
  const tunnel = await dialTunnel({ ...options, handler, ca: server.ca });
  expect(await tunnel.closed).toEqual({ code: 4000, reason: "through TLS" });
});
