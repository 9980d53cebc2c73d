import { execFile, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { promisify } from "node:util";

const TOOLS = ["ip", "tc", "nft", "nsenter"] as const;
const FOLDERS = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** Why networks of the test's own can't be made here; undefined when they can. */
export function noNetworksBecause(): string | undefined {
  if (process.platform !== "linux") return "this is no Linux";
  if (process.getuid?.() !== 0) return "network namespaces are for root";
  const missing = TOOLS.filter(
    (tool) => !FOLDERS.some((folder) => existsSync(`${folder}/${tool}`)),
  );
  if (missing.length > 0) return `no ${missing.join(", no ")}`;
  const name = newName();
  const made = spawnSync("ip", ["netns", "add", name], { encoding: "utf8" });
  if (made.status !== 0) return `the kernel refuses a network namespace: ${made.stderr.trim()}`;
  spawnSync("ip", ["netns", "del", name]);
  return undefined;
}

/** Says what a suite lacks and how to get it; with CI=true the suite runs all the same, and fails. */
export function isSuiteSkipped(suite: string, why: string | undefined, fix: string): boolean {
  if (why === undefined || process.env["CI"] === "true") return false;
  console.log(`SKIPPED ${suite}: ${why}, ${fix}`);
  return true;
}

/** A network of the test's own: no address, route or rule of it is seen by the machine. */
export class NetNamespace implements AsyncDisposable {
  readonly name = newName();

  static async create(): Promise<NetNamespace> {
    const made = new NetNamespace();
    await run("ip", "netns", "add", made.name);
    await made.ip("link", "set", "lo", "up");
    return made;
  }

  /** Program and arguments that start a program in here, under the pid that spawn gives. */
  command(program: string, ...args: string[]): [string, string[]] {
    return ["nsenter", [`--net=/run/netns/${this.name}`, "--", program, ...args]];
  }

  run(program: string, ...args: string[]): Promise<string> {
    const [first, rest] = this.command(program, ...args);
    return run(first, ...rest);
  }

  ip(...args: string[]): Promise<string> {
    return run("ip", "-n", this.name, ...args);
  }

  /** What was made in it (interfaces, rules) goes with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await run("ip", "netns", "del", this.name);
  }
}

/** Those of this test process that are still there. */
export function namespacesLeft(): string[] {
  if (!existsSync("/run/netns")) return [];
  return readdirSync("/run/netns").filter((name) => name.startsWith(`deco-${process.pid}-`));
}

/** A cable between two networks; gives the names of its ends. */
export async function connectNetworks(near: NetNamespace, far: NetNamespace): Promise<void> {
  const one = ["netns", near.name, "type", "veth"];
  const other = ["peer", "name", "cable", "netns", far.name];
  await run("ip", "link", "add", "cable", ...one, ...other);
  // One packet of the wire at a time: a drop would else take 64 KiB at once.
  const small = ["gso_max_size", "1500", "gso_max_segs", "1"];
  for (const side of [near, far]) await side.ip("link", "set", "cable", ...small, "up");
}

function newName(): string {
  return `deco-${process.pid}-${randomBytes(3).toString("hex")}`;
}

async function run(program = "", ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args, { timeout: 20_000 });
  return stdout;
}
