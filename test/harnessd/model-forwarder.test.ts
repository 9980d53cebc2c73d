import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ModelForwarder } from "../../src/harnessd/model-forwarder.ts";

test("a program inside reaches the socket of the model proxy through a loopback port", async () => {
  const folder = await mkdtemp(join(tmpdir(), "forwarder-"));
  const socketPath = join(folder, "model.sock");
  const proxy = createServer((request, response) => response.end(`got ${request.url}`));
  await new Promise<void>((resolve) => proxy.listen(socketPath, resolve));
  try {
    await using forwarder = new ModelForwarder({ socketPath });
    const url = await forwarder.baseUrl();
    expect(url).toStartWith("http://127.0.0.1:");
    expect(await forwarder.baseUrl()).toBe(url);
    expect(await (await fetch(`${url}/v1/models`)).text()).toBe("got /v1/models");
  } finally {
    proxy.closeAllConnections();
    proxy.close();
    await rm(folder, { recursive: true, force: true });
  }
});

test("when the model proxy is gone, the connection breaks at once instead of hanging", async () => {
  await using forwarder = new ModelForwarder({ socketPath: "/nonexistent/model.sock" });
  const { port } = new URL(await forwarder.baseUrl());
  const closed = new Promise((resolve) => {
    const socket = connect(Number(port), "127.0.0.1");
    socket.once("close", resolve);
    socket.on("error", () => undefined);
    socket.write("GET / HTTP/1.1\r\n\r\n");
  });
  await closed;
});
