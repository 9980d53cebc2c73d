import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dockerProvider } from "../../src/sandbox/drivers/docker/docker-provider.ts";
import { CACHE_DIR, quietLog, runInside, skipped } from "../suites/sandbox-provider-suite.ts";

const instanceId = `claude${process.pid}`;
const runRoot = await mkdtemp(join(tmpdir(), "deco-c-"));
const provider = dockerProvider({ instanceId, runRoot, cacheDir: CACHE_DIR, log: quietLog });
const probe = await provider.probe(AbortSignal.timeout(20_000));

if (!probe.available) {
  skipped("docker image of claude", probe.reason ?? "no engine", "run `npm run engines`");
}

test.skipIf(!probe.available)(
  "a sandbox for claude-code holds the real claude, bash, and a shell",
  async () => {
    const signal = AbortSignal.timeout(280_000);
    const context = { instanceId, harness: "claude-code", onStage() {} };
    const info = await provider.ensure("claude", { egress: "none" }, context, signal);
    try {
      expect(info.image).toStartWith("deco-link/claude-code:");
      expect(info.harnesses).toContain("shell");
      expect(info.harnesses).toContain("claude-code");
      const { output } = await runInside(
        provider,
        "claude",
        "claude --version; bash -c 'echo $BASH_VERSION'; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null",
        signal,
      );
      const [claude, bash, memory] = output.split("\n");
      expect(claude).toMatch(/^2\.1\.\d+ \(Claude Code\)$/);
      expect(bash).toMatch(/^\d+\.\d+/);
      expect(memory).toBe(String(1024 * 1024 * 1024));
    } finally {
      await provider.remove("claude", signal);
      await rm(runRoot, { recursive: true });
    }
  },
  300_000,
);
