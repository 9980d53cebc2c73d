import { expect, test } from "bun:test";
import { join } from "node:path";
import { mixedBehaviours } from "./behaviours/mixed.ts";
import { bundleForNode, runNode } from "./support-node.ts";

const names = Object.keys(mixedBehaviours([]));

for (const name of names)
  test(`hub on Bun, daemon on Node: ${name}`, async () => {
    await using daemon = await bundleForNode("test/net/behaviours/far-daemon.ts");
    await mixedBehaviours(["node", daemon.path])[name]?.();
  }, 30_000);

test("the same with the hub on Node and the daemon on Bun", async () => {
  await using hub = await bundleForNode("test/net/behaviours/node-mixed.ts");
  const daemon = join(import.meta.dir, "behaviours/far-daemon.ts");
  const printed = await runNode(hub.path, [process.execPath, daemon]);
  expect(printed.match(/^ok /gm)).toHaveLength(names.length);
}, 60_000);
