import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rulesPlaces, sandboxRules } from "../../src/daemon/sandbox-rules.ts";
import { DecoError } from "../../src/protocol/errors.ts";
import { SandboxSpec, type WorkspaceSpec } from "../../src/protocol/messages.ts";
import { hostFolder } from "../../src/sandbox/workspace/host-folder.ts";

const place = realpathSync(mkdtempSync(join(tmpdir(), "deco-ws-")));
const code = join(place, "code");
const own = join(place, "code", "deco-home");
for (const path of ["code/project/sub", "code/deco-home/config", "other", "code/readable"]) {
  mkdirSync(join(place, path), { recursive: true });
}
writeFileSync(join(code, "file"), "");
symlinkSync(join(place, "other"), join(code, "way-out"));
symlinkSync(join(code, "project"), join(code, "inside"));
symlinkSync("/", join(code, "root"));
const policyFile = join(own, "config", "policy.json");
const rules = sandboxRules(rulesPlaces(join(own, "config"), [own]));
const asker = { user: "u", local: false };

afterAll(() => rmSync(place, { recursive: true }));

function allow(workspaces: unknown): void {
  writeFileSync(policyFile, JSON.stringify({ version: 1, workspaces }), { mode: 0o600 });
}

function resolve(workspace: WorkspaceSpec): string {
  try {
    return rules.resolve({ workspace }, asker).workspace?.path ?? "none";
  } catch (thrown) {
    return DecoError.from(thrown).code;
  }
}

describe("a folder of the laptop", () => {
  test("is given by the policy alone, in the modes that it names, with its real path", () => {
    rmSync(policyFile, { force: true });
    expect(resolve({ mode: "read_only", path: join(code, "project") })).toBe("policy_denied");
    allow([{ path: code, modes: ["read_only"] }]);
    expect(resolve({ mode: "read_only", path: join(code, "project") })).toBe(join(code, "project"));
    expect(resolve({ mode: "read_only", path: `${code}/project/../project/sub/` })).toBe(
      join(code, "project/sub"),
    );
    expect(resolve({ mode: "read_only", path: join(code, "inside") })).toBe(join(code, "project"));
    expect(resolve({ mode: "read_write", path: join(code, "project") })).toBe("policy_denied");
    allow([{ path: join(code, "inside"), modes: ["read_write"] }]);
    expect(resolve({ mode: "read_write", path: join(code, "inside/sub") })).toBe(
      join(code, "project/sub"),
    );
    writeFileSync(policyFile, "{broken", { mode: 0o600 });
    expect(resolve({ mode: "read_only", path: join(code, "project") })).toBe("policy_denied");
  });

  test("is refused where it leaves what was allowed, by .. or by a link, or is none", () => {
    allow([{ path: code, modes: ["read_only"] }]);
    const refused = [
      `${code}/../other`,
      join(place, "other"),
      join(code, "way-out"),
      join(code, "root"),
    ];
    for (const path of refused) expect(resolve({ mode: "read_only", path })).toBe("policy_denied");
    // What is outside is not even looked for.
    expect(resolve({ mode: "read_only", path: join(place, "nowhere") })).toBe("policy_denied");
    expect(resolve({ mode: "read_only", path: join(code, "nowhere") })).toBe("invalid_request");
    expect(resolve({ mode: "read_only", path: join(code, "file") })).toBe("invalid_request");
  });

  test("links of a guest tell a hub nothing of what lies outside", () => {
    allow([{ path: code, modes: ["read_only", "read_write"] }]);
    const to: [string, string][] = [
      ["to-folder", join(place, "other")],
      ["to-file", "/etc/passwd"],
      ["to-system", "/etc"],
      ["to-nothing", join(place, "nowhere")],
    ];
    for (const [name, target] of to) symlinkSync(target, join(code, "project", name));
    const names = [
      ...to.map(([name]) => name),
      "to-system/nowhere",
      "to-file/x",
      "to-folder/nowhere/x",
    ];
    const answers = names.map((name) => {
      const path = join(code, "project", name);
      try {
        return rules.resolve({ workspace: { mode: "read_only", path } }, asker).workspace?.path;
      } catch (thrown) {
        const { code: said, message } = DecoError.from(thrown);
        return `${said} ${message.replace(path, "PATH")}`;
      }
    });
    expect(new Set(answers).size).toBe(1);
    expect(answers[0]).toStartWith("policy_denied");
  });

  test("is refused where it is, or holds, the daemon's own, even where the policy gives it", () => {
    allow([{ path: code, modes: ["read_only"] }]);
    for (const path of [own, join(own, "config"), code]) {
      expect(resolve({ mode: "read_only", path })).toBe("policy_denied");
    }
  });
});

describe("no policy can give", () => {
  const home = join(place, "home");
  for (const path of [
    ".ssh",
    ".aws",
    ".gnupg",
    ".config/gh",
    "code/x",
    ".config/nvim",
    ".config/systemd/user",
    ".local/share/docker/volumes",
    "bin",
  ]) {
    mkdirSync(join(home, path), { recursive: true });
  }
  symlinkSync(join(home, ".ssh"), join(home, "code", "keys"));

  test.each([
    "/",
    "/etc",
    "/usr/bin",
    "/proc",
    "/dev",
    "/var/lib",
    "/var/run",
    "/var",
    "/run",
    "/sys",
  ])("%s", (path) => {
    expect(() => hostFolder(path, { home })).toThrow(
      expect.objectContaining({ code: "policy_denied" }),
    );
  });

  test.each([
    "",
    "..",
    ".ssh",
    ".aws",
    ".gnupg",
    ".config",
    ".config/gh",
    "code/keys",
    ".config/systemd/user",
    ".local/share/docker/volumes",
    "bin",
  ])("~/%s", (path) => {
    const denied = expect.objectContaining({ code: "policy_denied" });
    expect(() => hostFolder(join(home, path), { home })).toThrow(denied);
  });

  test("another case of such a name, where case says nothing", () => {
    const denied = expect.objectContaining({ code: "policy_denied" });
    for (const path of [".SSH", ".\u017F\u017Fh", "Bin"]) {
      mkdirSync(join(home, path), { recursive: true });
      expect(() => hostFolder(join(home, path), { home, caseless: true })).toThrow(denied);
      expect(hostFolder(join(home, path), { home, caseless: false })).toBe(join(home, path));
    }
    const upper = join(place, "HOME");
    mkdirSync(upper);
    expect(() => hostFolder(upper, { home, caseless: true })).toThrow(denied);
  });

  test("all of /tmp, where desktops and agents have their sockets; a folder in it is given", () => {
    const elsewhere = { home: "/home/somebody" };
    expect(() => hostFolder("/tmp", elsewhere)).toThrow(
      expect.objectContaining({ code: "policy_denied" }),
    );
    expect(hostFolder(join(code, "project"), elsewhere)).toBe(join(code, "project"));
  });

  test("what holds nothing but work is given", () => {
    expect(hostFolder(join(home, "code/x"), { home })).toBe(join(home, "code/x"));
    expect(hostFolder(join(home, ".config/nvim"), { home })).toBe(join(home, ".config/nvim"));
  });
});

describe("a workspace that makes no sense is a 400 before anything is made:", () => {
  test.each([
    ["read_only without a path", { mode: "read_only" }],
    ["read_write without a path", { mode: "read_write" }],
    ["a relative path", { mode: "read_only", path: "code" }],
    ["a path that nobody uses", { mode: "archive", path: "/x" }],
    ["git without an address", { mode: "git" }],
    ["git with a user", { mode: "git", url: "https://me@example.org/x" }],
    ["git with a password", { mode: "git", url: "https://me:secret@example.org/x" }],
    ["git by ssh", { mode: "git", url: "ssh://git@example.org/x" }],
    ["git of a file", { mode: "git", url: "file:///etc" }],
    ["git by an option", { mode: "git", url: "--upload-pack=x" }],
    ["a ref that is an option", { mode: "git", url: "https://example.org/x", ref: "--force" }],
    ["an address without git", { mode: "none", url: "https://example.org/x" }],
    ["a ref without git", { mode: "none", ref: "main" }],
    ["an unknown mode", { mode: "write_only" }],
  ])("%s", (_what, workspace) => {
    expect(SandboxSpec.safeParse({ workspace }).success).toBe(false);
  });

  test.each([
    { mode: "none" },
    { mode: "archive", ref: "a1-b2" },
    { mode: "git", url: "https://example.org/x.git", ref: "feature/x_1" },
    { mode: "read_only", path: "/srv/code" },
  ])("%j is taken", (workspace) => {
    expect(SandboxSpec.safeParse({ workspace }).success).toBe(true);
  });
});
