import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, chown, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CACHE_DIR, skipped } from "../suites/sandbox-provider-suite.ts";

const repo = join(import.meta.dir, "..", "..");
const NOBODY = 65_534;
let bundle: string;
let runRoot: string;

beforeAll(async () => {
  // In the checkout, so that the packages are found; beside each other, as in dist.
  await mkdir(join(repo, ".cache"), { recursive: true });
  bundle = await mkdtemp(join(repo, ".cache", "on-node-"));
  for (const [entry, naming] of [
    ["test/support/programs/sandbox-once.ts", "once.js"],
    ["src/harnessd/main.ts", "harnessd.js"],
  ] as const) {
    await Bun.build({
      entrypoints: [join(repo, entry)],
      outdir: bundle,
      naming,
      target: "node",
      packages: "external",
    });
  }
  runRoot = await mkdtemp(join(tmpdir(), "deco-n-"));
});

afterAll(async () => {
  expect(await readdir(runRoot)).toEqual([]);
  await rm(runRoot, { recursive: true });
  await rm(bundle, { recursive: true });
});

async function run(argv: string[], env: NodeJS.ProcessEnv = process.env) {
  const child = spawn(argv[0] ?? "", argv.slice(1), { env, stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  await new Promise((resolve) => child.once("close", resolve));
  const value: unknown = JSON.parse(text);
  return value;
}

const once = (...args: string[]) => ["node", join(bundle, "once.js"), ...args];

const nobody = (...args: string[]) => [
  "setpriv",
  `--reuid=${NOBODY}`,
  `--regid=${NOBODY}`,
  "--clear-groups",
  ...once(...args),
];

describe("providers on Node, from bundles as in dist", () => {
  test("process: a sandbox is made, used, emptied and removed; or the reason is told", async () => {
    const result = await run(once("process", runRoot, CACHE_DIR));
    if (process.getuid?.() !== 0) {
      expect(result).toMatchObject({ refused: { code: "unconfined_refused" } });
      return;
    }
    expect(result).toMatchObject({
      probe: { confined: true },
      status: "running",
      left: 0,
      gone: true,
    });
  }, 60_000);

  test("docker: a sandbox is made, used, emptied and removed; or the reason is told", async () => {
    const result = await run(once("docker", runRoot, CACHE_DIR));
    if (JSON.stringify(result).includes('"available":false')) {
      skipped("docker on node", JSON.stringify(result), "run `npm run engines`");
      return;
    }
    expect(result).toMatchObject({ confined: true, status: "running", left: 0, gone: true });
  }, 60_000);
});

test.skipIf(process.getuid?.() !== 0 || process.arch !== "x64" || !existsSync("/usr/bin/perl"))(
  "what runs confined does not find the keys of the daemon's session keyring",
  async () => {
    const name = '$t = "user"; $n = "deco-test";';
    const login = `syscall(250, 1, 0); ${name} $v = "secret"; syscall(248, $t, $n, $v, 6, -3);`;
    const find = `${name} print syscall(250, 10, -3, $t, $n, 0) > 0 ? "FOUND" : "none"`;
    const seen = spawnSync("/usr/bin/perl", ["-e", `${login} exec @ARGV`, "perl", "-e", find]);
    expect(seen.stdout.toString()).toBe("FOUND");
    const argv = once("process", runRoot, CACHE_DIR, "", `perl -e '${find}'`);
    const result = await run(["/usr/bin/perl", "-e", `${login} exec @ARGV`, ...argv]);
    expect(result).toMatchObject({ confined: true, output: "none" });
  },
  60_000,
);

describe.skipIf(process.getuid?.() !== 0)("a daemon without root, where nothing confines", () => {
  let home: string;

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), "deco-u-"));
    await chown(home, NOBODY, NOBODY);
    await chmod(bundle, 0o755);
  });
  afterAll(async () => {
    expect(await readdir(home)).toEqual([]);
    await rm(home, { recursive: true });
  });

  test("is refused with the reason and the way out", async () => {
    const result = await run(nobody("process", home, CACHE_DIR), { PATH: process.env["PATH"] });
    expect(result).toMatchObject({
      probe: { available: false, confined: false },
      refused: { code: "unconfined_refused" },
    });
  });

  test("runs a plain process only when the owner allows it, and says that it is unconfined", async () => {
    const env = { PATH: process.env["PATH"] };
    const result = await run(nobody("process", home, CACHE_DIR, "unconfined"), env);
    expect(result).toMatchObject({
      probe: { available: true, confined: false },
      confined: false,
      output: `from sh\n${NOBODY}\n`,
      left: 0,
      gone: true,
    });
  }, 60_000);
});
