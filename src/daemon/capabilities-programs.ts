import { execFile } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import type { CapabilityProbe } from "./capabilities.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** Where installers put VBoxManage without telling PATH. */
const VBOX_PLACES = [
  "/usr/lib/virtualbox/VBoxManage",
  "/opt/VirtualBox/VBoxManage",
  "/Applications/VirtualBox.app/Contents/MacOS/VBoxManage",
  "C:\\Program Files\\Oracle\\VirtualBox\\VBoxManage.exe",
];

/** Is VBoxManage there, and does it answer? */
export function virtualboxProbe(o: {
  readonly env: Env;
  readonly places?: readonly string[];
}): CapabilityProbe {
  const name = "virtualbox";
  return {
    name,
    async probe(signal) {
      const program = await findProgram("VBoxManage", o.env, o.places ?? VBOX_PLACES);
      if (program === undefined) {
        const reason = "VBoxManage is neither on PATH nor in its usual places";
        return { name, available: false, reason, fix: "Install VirtualBox 7." };
      }
      const answer = await versionOf(program, signal);
      if (answer.type === "failed") {
        const reason = `${program} --version: ${answer.reason}`;
        return { name, available: false, reason, fix: "Reinstall VirtualBox, or load its driver." };
      }
      return {
        name,
        available: false,
        version: answer.version,
        arch: process.arch,
        path: program,
        reason: "VirtualBox answers, but this version has no provider for it yet",
        fix: "Use docker or process.",
      };
    },
  };
}

/** What a harness's program on the laptop itself looks like. */
export interface LaptopProgram {
  readonly installed: boolean;
  readonly version?: string;
  readonly reason?: string;
}

/** Finds a program on PATH and asks it for its version. */
export async function laptopProgram(
  command: string,
  env: Env,
  signal: AbortSignal,
): Promise<LaptopProgram> {
  const program = await findProgram(command, env, []);
  if (program === undefined) return { installed: false, reason: `${command} is not on PATH` };
  const answer = await versionOf(program, signal);
  return answer.type === "failed"
    ? { installed: false, reason: `${program} --version: ${answer.reason}` }
    : { installed: true, version: answer.version };
}

/** The first executable of this name on PATH, else the first of `places` that is one. */
export async function findProgram(
  command: string,
  env: Env,
  places: readonly string[],
): Promise<string | undefined> {
  const onPath = (env["PATH"] ?? "")
    .split(delimiter)
    .filter((dir) => dir !== "")
    .map((dir) => join(dir, command));
  for (const candidate of [...onPath, ...places]) {
    const usable = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (usable) return candidate;
  }
  return undefined;
}

type VersionAnswer =
  | { readonly type: "version"; readonly version: string }
  | { readonly type: "failed"; readonly reason: string };

/** Runs `program --version`; the first number that looks like one. Killed when the signal aborts. */
async function versionOf(program: string, signal: AbortSignal): Promise<VersionAnswer> {
  return new Promise((resolve) => {
    const options = { signal, timeout: 4000, killSignal: "SIGKILL", maxBuffer: 64 * 1024 } as const;
    execFile(program, ["--version"], options, (error, stdout) => {
      const version = /\d+\.\d+[\w.+-]*/.exec(stdout)?.[0];
      if (version !== undefined && error === null) return resolve({ type: "version", version });
      const reason = error === null ? "it named no version" : firstLine(error);
      resolve({ type: "failed", reason });
    });
  });
}

function firstLine(error: Error & { killed?: boolean; code?: unknown }): string {
  if (error.killed) return "it did not answer in time";
  return error.message.split("\n", 1)[0] ?? "it failed";
}
