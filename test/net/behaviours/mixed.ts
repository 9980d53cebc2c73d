import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Behaviours } from "./run.ts";
import { chunks, countBytes, MIB, rejects } from "./support.ts";
import { GET } from "./tunnel-app.ts";
import { testHub } from "./tunnel-pair.ts";

/** A hub in this runtime, a daemon's end in a process of another one. */
async function farDaemon(command: readonly string[]) {
  const hub = await testHub();
  const accepted = hub.next();
  const [program = "", ...args] = command;
  const child = spawn(program, [...args, hub.url], { stdio: ["ignore", "inherit", "inherit"] });
  const exited = once(child, "exit");
  return {
    child,
    exited,
    peer: await accepted,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
      await hub[Symbol.asyncDispose]();
    },
  };
}

export function mixedBehaviours(command: readonly string[]): Behaviours {
  return {
    "requests, uploads, downloads and raw streams cross between two runtimes": async () => {
      await using far = await farDaemon(command);
      const { peer } = far;
      const body = new TextEncoder().encode("grüße");
      const echo = await peer.request({ ...GET, method: "POST", path: "/echo?x", body });
      assert.equal(await new Response(echo.body).text(), "POST /echo?x grüße");
      const upload = chunks(24 * MIB);
      const up = await peer.request({ ...GET, method: "POST", path: "/sink", body: upload });
      assert.equal(await new Response(up.body).text(), String(24 * MIB));
      const down = await peer.request({ ...GET, path: `/blob?n=${24 * MIB}` });
      assert.equal(await countBytes(down.body), 24 * MIB);
      const raw = await peer.upgrade({ ...GET, method: "GET", path: "/raw" });
      assert.ok(raw.socket);
      raw.socket.end(Buffer.alloc(3 * MIB, 5));
      let bytes = 0;
      raw.socket.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      await once(raw.socket, "close");
      assert.equal(bytes, 3 * MIB);
      peer.close(4000, "a newer daemon took over");
      const [code]: unknown[] = await far.exited;
      assert.equal(code, 0);
    },

    "a daemon that is killed fails what was under way with tunnel_lost": async () => {
      await using far = await farDaemon(command);
      const waiting = rejects(far.peer.request({ ...GET, path: "/hang" }));
      const down = await far.peer.request({ ...GET, path: `/blob?n=${512 * MIB}` });
      far.child.kill("SIGKILL");
      assert.equal((await rejects(countBytes(down.body))).code, "tunnel_lost");
      assert.equal((await waiting).code, "tunnel_lost");
      assert.equal((await far.peer.closed).code, 1006);
    },
  };
}
