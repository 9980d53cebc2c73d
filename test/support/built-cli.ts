import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../..", import.meta.url));
let built: Promise<string> | undefined;

/** dist/cli.js, built from this checkout once per test process. */
export function builtCli(): Promise<string> {
  built ??= build();
  return built;
}

async function build(): Promise<string> {
  await promisify(execFile)(process.execPath, ["scripts/build.ts"], { cwd: root });
  return `${root}dist/cli.js`;
}
