import type { Template } from "./template.ts";

const base = {
  version: 1,
  tier: 2,
  workspace: { mode: "none" },
  readyBudgetMs: 30_000,
} as const satisfies Partial<Template>;

/** Templates that every laptop has; a file of the same name in the config folder wins over one. */
export const BUILTIN_TEMPLATES: Readonly<Record<string, Template>> = {
  shell: {
    ...base,
    description: "a POSIX shell and busybox, nothing else",
    source: { build: "harnessd" },
    harnesses: ["shell"],
    resources: { memoryMib: 512, cpus: 1, pids: 128 },
    labels: ["shell"],
  },
  "claude-code": {
    ...base,
    description: "Claude Code, with bash",
    source: { build: "claude-code" },
    harnesses: ["shell", "claude-code"],
    resources: { memoryMib: 1024, cpus: 1, pids: 256 },
    labels: ["shell", "claude-code"],
  },
  codex: {
    ...base,
    description: "Codex, with bash",
    source: { build: "codex" },
    harnesses: ["shell", "codex"],
    resources: { memoryMib: 1024, cpus: 1, pids: 256 },
    labels: ["shell", "codex"],
  },
  all: {
    ...base,
    description: "every harness of this version in one image",
    source: { build: "all" },
    harnesses: ["shell", "claude-code", "codex"],
    resources: { memoryMib: 1024, cpus: 1, pids: 256 },
    labels: ["shell", "claude-code", "codex"],
  },
};
