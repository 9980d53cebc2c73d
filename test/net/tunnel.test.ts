import { expect, test } from "bun:test";
import { tunnelBehaviours } from "./behaviours/tunnel.ts";
import { tunnelFailures } from "./behaviours/tunnel-failures.ts";
import { firstBehaviours } from "./behaviours/tunnel-first.ts";
import { upgradeBehaviours } from "./behaviours/upgrade.ts";
import { bundleForNode, runNode } from "./support-node.ts";

const behaviours = {
  ...tunnelBehaviours,
  ...tunnelFailures,
  ...upgradeBehaviours,
  ...firstBehaviours,
};

for (const [name, behaviour] of Object.entries(behaviours)) test(name, behaviour, 20_000);

test("all of this holds on Node, too", async () => {
  await using bundle = await bundleForNode("test/net/behaviours/node-tunnel.ts");
  const printed = await runNode(bundle.path);
  expect(printed.match(/^ok /gm)).toHaveLength(Object.keys(behaviours).length);
}, 120_000);
