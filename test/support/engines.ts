import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Where an engine is missing a suite says SKIPPED; with CI=true it runs, and fails. */
export function isSkipped(what: string, present: boolean): boolean {
  if (present || process.env["CI"] === "true") return false;
  console.log(`SKIPPED: no ${what}; npm run engines installs it`);
  return true;
}

/** Whether a Docker engine answers this user. */
export async function dockerAnswers(): Promise<boolean> {
  const asked = promisify(execFile)("docker", ["version"], { timeout: 10_000 });
  return asked.then(
    () => true,
    () => false,
  );
}
