import { DecoError } from "../protocol/errors.ts";
import type { Command } from "./command.ts";
import { type Check, type CheckStatus, type Finding, fail, type Patient } from "./doctor/check.ts";
import { linkChecks } from "./doctor/link.ts";
import { machineChecks } from "./doctor/machine.ts";
import { ownerFileChecks } from "./doctor/owner-files.ts";
import { preflightChecks } from "./doctor/preflight.ts";
import { sandboxChecks } from "./doctor/sandboxes.ts";
import { knownHub } from "./home.ts";
import type { Output } from "./output.ts";
import { settings } from "./settings.ts";
import { askStatus } from "./status.ts";

const PROBLEMS_EXIT = 10;
/** No check may hang the doctor. */
const CHECK_LIMIT_MS = 30_000;

/** `deco doctor`: all checks at once, each with a fix; ends with 10 when one failed. */
export function doctor(flags: { readonly hub?: string }): Command {
  return async (context) => {
    const { env, out } = context;
    const config = settings(env);
    const patient: Patient = {
      env,
      config,
      hub: await knownHub(env, flags.hub),
      snapshot: await askStatus(context).catch(() => ({ state: "does not answer" })),
      signal: context.signal,
    };
    const table = [
      ...machineChecks,
      ...linkChecks,
      ...sandboxChecks,
      ...ownerFileChecks,
      ...preflightChecks,
    ];
    const checks = await Promise.all(table.map((check) => examine(check, patient)));
    const good = checks.every(({ status }) => status !== "fail");
    out.result({ ok: good, checks }, () => checks.map((check) => line(out, check)).join("\n"));
    return good ? 0 : PROBLEMS_EXIT;
  };
}

type Result = Finding & { readonly id: string; readonly title: string };

async function examine(check: Check, patient: Patient): Promise<Result> {
  const { id, title } = check;
  const limit = AbortSignal.timeout(CHECK_LIMIT_MS);
  const signal = AbortSignal.any([patient.signal, limit]);
  try {
    return { id, title, ...(await check.run({ ...patient, signal })) };
  } catch (thrown) {
    patient.signal.throwIfAborted();
    const error = DecoError.from(thrown);
    const fix = error.code === "internal" ? check.fix : error.fix;
    const detail = limit.aborted ? `no answer in ${CHECK_LIMIT_MS / 1000} s` : error.message;
    return { id, title, ...fail(detail, fix) };
  }
}

function paint(out: Output, status: CheckStatus): string {
  const word = status.padEnd(4);
  if (status === "ok") return out.green(word);
  if (status === "fail") return out.red(word);
  return status === "warn" ? out.bold(word) : out.dim(word);
}

function line(out: Output, { status, title, detail, fix }: Result): string {
  const head = `${paint(out, status)}  ${title.padEnd(20)}  ${detail}`;
  return fix === undefined ? head : `${head}\n      fix: ${fix}`;
}
