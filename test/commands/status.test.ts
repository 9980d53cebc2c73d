import { expect, test } from "bun:test";
import { humanStatus } from "../../src/commands/status.ts";

test("status prints each capability on a line of its own: what works with its version, what does not with reason and fix", () => {
  const text = humanStatus({
    state: "online",
    capabilities: [
      { name: "docker", available: true, version: "20.10.24", arch: "x64", confined: true },
      { name: "process", version: "2.38", confined: false, reason: "no user\nnamespaces" },
      { name: "virtualbox", available: false, reason: "no VBoxManage", fix: "Install it." },
      { name: "codex", available: false },
      { name: "docker", version: "5.4", address: "/run/p.sock", foundBy: "Podman's socket" },
    ],
    warm: { ready: 1, memoryMib: 12, leased: 3, retryAt: undefined, reason: "no room" },
    load: { runs: 1, maxRuns: 4 },
    runs: [{ runId: "run_1" }, { runId: "run_2" }],
    warnings: [],
  });
  expect(text.split("\n")).toEqual([
    "state         online",
    "capabilities  docker 20.10.24 (x64)",
    "              process 2.38, UNCONFINED: no user namespaces",
    "              virtualbox: not available: no VBoxManage (fix: Install it.)",
    "              codex: not available: unknown",
    "              docker 5.4 at /run/p.sock, by Podman's socket",
    "warm          ready=1 memoryMib=12 leased=3 reason=no room",
    "load          runs=1 maxRuns=4",
    "runs          runId=run_1",
    "              runId=run_2",
    "warnings      none",
  ]);
});
