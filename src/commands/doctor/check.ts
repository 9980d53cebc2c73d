import type { Config } from "../../daemon/config.ts";
import type { CommandContext } from "../command.ts";
import type { JsonRecord } from "../record.ts";

/** `warn` is worth knowing and keeps nothing from working; only `fail` makes the doctor end with 10. */
export type CheckStatus = "ok" | "warn" | "fail" | "skip";

/** What a check found. */
export interface Finding {
  readonly status: CheckStatus;
  readonly detail: string;
  /** What to do; always there for `warn` and `fail`. */
  readonly fix?: string;
}

/** What all checks share. */
export interface Patient {
  readonly env: CommandContext["env"];
  readonly config: Config;
  /** The hub that commands of this home use; undefined when none is known. */
  readonly hub: string | undefined;
  /** The local daemon's snapshot; undefined when none runs. */
  readonly snapshot: JsonRecord | undefined;
  readonly signal: AbortSignal;
}

/** One line of the doctor's table. */
export interface Check {
  readonly id: string;
  readonly title: string;
  /** What to say when `run` throws: that the check itself broke is a finding, too. */
  readonly fix: string;
  run(patient: Patient): Promise<Finding>;
}

export const ok = (detail: string): Finding => ({ status: "ok", detail });
export const skip = (detail: string): Finding => ({ status: "skip", detail });
export const warn = (detail: string, fix: string): Finding => ({ status: "warn", detail, fix });
export const fail = (detail: string, fix: string): Finding => ({ status: "fail", detail, fix });
