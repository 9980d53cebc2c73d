import { expect, test } from "bun:test";
import { refuseForProcess } from "../../src/sandbox/drivers/process/refuse.ts";
import type { ResolvedSpec } from "../../src/sandbox/sandbox-spec.ts";

const refused: [string, ResolvedSpec][] = [
  ["tier 1", { tier: 1 }],
  ["tier 3", { tier: 3 }],
  ["tier 4", { tier: 4 }],
  ["an image", { image: "debian:12" }],
  ["an image of ours that is not harnessd", { facts: { build: "claude-code" } }],
  [
    "another platform",
    { facts: { platform: process.arch === "arm64" ? "linux/amd64" : "linux/arm64" } },
  ],
  ["a runtime", { facts: { runtime: "haskell" } }],
  ["published ports", { ports: [80] }],
  ["a thread's network", { network: { thread: true }, facts: { threadKey: "a" } }],
];

test.each(refused)(
  "a process of this machine is refused %s, instead of going without",
  (_what, spec) => {
    expect(() => refuseForProcess(spec)).toThrow(
      expect.objectContaining({ code: "isolation_unavailable" }),
    );
  },
);

test("what it can give is not refused: tier 2 by any of its names, the shell template's build, no ports", () => {
  for (const tier of [0, 2, 5, -3]) refuseForProcess({ tier });
  refuseForProcess({
    ports: [],
    facts: { build: "harnessd", template: "shell", labels: ["shell"] },
  });
});
