import { afterEach, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { createModelProxy, type ModelProxy } from "../../src/daemon/model-proxy/model-proxy.ts";
import { deferred } from "../../src/protocol/deferred.ts";
import { asker, closeAll, code, KEY, raw, setup } from "./model-proxy-setup.ts";

afterEach(closeAll);

function bareProxy(tokenKey?: Uint8Array): ModelProxy {
  return createModelProxy({
    upstreams: {},
    log: { info: () => undefined },
    ...(tokenKey ? { tokenKey } : {}),
  });
}

describe("who may ask", () => {
  test("a token counts as bearer and as x-api-key", async () => {
    const { socketPath, token } = await setup();
    const bearer = asker(socketPath, "other");
    const answer = await bearer({ headers: { authorization: `Bearer ${token}` } });
    expect(answer.status).toBe(200);
  });

  test("no token, a wrong one, the real key and one of an ended run are refused", async () => {
    const { socketPath, proxy, token, upstream } = await setup();
    for (const wrong of ["", "nonsense", KEY, `${token}x`]) {
      expect(await code(asker(socketPath, wrong)())).toBe("401 unauthorized");
    }
    proxy.revoke("run_1");
    expect(await code(asker(socketPath, token)())).toBe("401 unauthorized");
    expect(upstream.seen).toHaveLength(0);
  });

  test("the end of a run ends what it still asks", async () => {
    const gone = deferred();
    const { ask, proxy, upstream } = await setup({
      script: (response) => void response.once("close", () => gone.resolve()),
    });
    const asked = code(ask());
    await upstream.asked(1);
    proxy.revoke("run_1");
    await gone.promise;
    expect(await asked).toBe("401 unauthorized");
  });

  test("runs have tokens of their own; with a kept key they outlive a restart", async () => {
    const one = bareProxy();
    expect(one.grant("a").token).toBe(one.grant("a").token);
    expect(one.grant("a").token).not.toBe(one.grant("b").token);
    expect(one.grant("a").token).not.toBe(bareProxy().grant("a").token);
    const key = new Uint8Array(32).fill(1);
    expect(bareProxy(key).grant("a").token).toBe(bareProxy(key).grant("a").token);
  });

  test("without access to a service it says so", async () => {
    const { ask } = await setup({ options: { upstreams: {} } });
    expect(await code(ask())).toBe("503 model_unconfigured");
    expect(await code(ask({ path: "/v1/responses" }))).toBe("503 model_unconfigured");
  });
});

describe("what is not on the list is refused", () => {
  const refused: [string, string][] = [
    ["GET", "/"],
    ["HEAD", "/"],
    ["GET", "/v1/messages"],
    ["PUT", "/v1/messages"],
    ["DELETE", "/v1/models"],
    ["POST", "/v1/models"],
    ["POST", "/v1/complete"],
    ["POST", "/v1/messages/"],
    ["POST", "/v1/messages/batches"],
    ["POST", "/v1/messages/../files"],
    ["POST", "/v1/messages/%2e%2e/files"],
    ["POST", "/v1%2fmessages"],
    ["POST", "//v1/messages"],
    ["GET", "/v1/files"],
    ["GET", "/v1/organizations/x"],
  ];
  for (const [method, path] of refused) {
    test(`${method} ${path}`, async () => {
      const { socketPath, token, upstream } = await setup();
      const head = `${method} ${path} HTTP/1.1\r\nhost: x\r\nx-api-key: ${token}\r\ncontent-length: 0\r\n`;
      const answer = await raw(socketPath, `${head}connection: close\r\n\r\n`);
      expect(answer).toStartWith("HTTP/1.1 403 ");
      expect(upstream.seen).toHaveLength(0);
    });
  }

  test("absolute-form, CONNECT and Upgrade", async () => {
    const { socketPath, token, upstream } = await setup();
    const head = (line: string) =>
      `${line} HTTP/1.1\r\nhost: x\r\nx-api-key: ${token}\r\ncontent-length: 0\r\n`;
    const absolute = await raw(
      socketPath,
      `${head(`POST ${upstream.url}/v1/messages`)}connection: close\r\n\r\n`,
    );
    expect(absolute).not.toStartWith("HTTP/1.1 2");
    const tunnel = await raw(socketPath, `${head("CONNECT api.anthropic.com:443")}\r\n`);
    expect(tunnel).not.toStartWith("HTTP/1.1 2");
    const star = await raw(socketPath, `${head("OPTIONS *")}connection: close\r\n\r\n`);
    expect(star).not.toStartWith("HTTP/1.1 2");
    const upgrade = await raw(
      socketPath,
      `${head("GET /v1/models")}connection: upgrade\r\nupgrade: websocket\r\n\r\n`,
    );
    expect(upgrade).toStartWith("HTTP/1.1 403 ");
    expect(upgrade).toContain("model_refused");
    expect(upstream.seen).toHaveLength(0);
  });
});

describe("a flood", () => {
  test("of connections is cut at 128, and leaves room when it ends", async () => {
    const { socketPath, ask } = await setup();
    const cut = deferred();
    let closed = 0;
    const sockets = Array.from({ length: 200 }, () => {
      const socket = connect(socketPath);
      socket.on("error", () => undefined);
      socket.once("close", () => {
        closed += 1;
        if (closed === 200 - 128) cut.resolve();
      });
      return socket;
    });
    await cut.promise;
    for (const socket of sockets) socket.destroy();
    const answered = async (): Promise<number> =>
      ask().then(
        ({ status }) => status,
        () => answered(),
      );
    expect(await answered()).toBe(200);
  });
});
