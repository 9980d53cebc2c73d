import { expect, test } from "bun:test";
import { httpBehaviours } from "./behaviours/http.ts";
import { sseBehaviours } from "./behaviours/sse.ts";
import { bundleForNode, runNode } from "./support-node.ts";

const behaviours = { ...httpBehaviours, ...sseBehaviours };

for (const [name, behaviour] of Object.entries(behaviours)) test(name, behaviour, 30_000);

test("all of this holds on Node, too", async () => {
  await using bundle = await bundleForNode("test/net/behaviours/node-http.ts");
  const printed = await runNode(bundle.path);
  expect(printed.match(/^ok /gm)).toHaveLength(Object.keys(behaviours).length);
}, 120_000);
