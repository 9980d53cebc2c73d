import type { DecoError, Problem } from "../protocol/errors.ts";
import { createBar } from "./progress-bar.ts";

/** Where a command prints. Only results go to stdout; all else goes to stderr. */
export interface Output {
  readonly json: boolean;
  /** The command's answer: one JSON object with --json, else what `human` makes of it. */
  result(value: object, human: () => string): void;
  /** One line of something that follows: NDJSON with --json, else what `human` makes of it. */
  event(value: object, human: () => string | undefined): void;
  /** Text that belongs to the answer, such as what an agent said; nothing with --json. */
  text(chunk: string): void;
  /** Progress, for people; on stderr. */
  note(line: string): void;
  /**
   * How far something is; on stderr. A bar that moves in a terminal; elsewhere a line for each new
   * text that has no share yet, or begins.
   *
   * @param fraction share, 0 to 1; undefined: a line that says what happens
   */
  progress(line: string, fraction?: number): void;
  /** A failure: title, detail and fix on stderr; the problem document on stdout with --json. */
  error(error: DecoError): void;
  bold(text: string): string;
  dim(text: string): string;
  green(text: string): string;
  red(text: string): string;
}

/** What {@link createOutput} writes to; `isTty` decides on colour only. */
export interface OutputOptions {
  readonly json: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout?: { write(text: string): unknown; readonly isTTY?: boolean };
  readonly stderr?: {
    write(text: string): unknown;
    readonly isTTY?: boolean;
    readonly columns?: number;
  };
}

export function createOutput(options: OutputOptions): Output {
  const { json, env, stdout = process.stdout, stderr = process.stderr } = options;
  const coloured = !json && stdout.isTTY === true && !env["NO_COLOR"] && env["TERM"] !== "dumb";
  const paint = (code: number) => (text: string) =>
    coloured ? `\u001B[${code}m${text}\u001B[0m` : text;
  let column = 0;

  const animated = stderr.isTTY === true && !json && !env["NO_COLOR"] && env["TERM"] !== "dumb";
  const bar = createBar(stderr, animated);

  const print = (text: string) => {
    bar.clear();
    column = text.endsWith("\n") ? 0 : column + text.length;
    stdout.write(text);
  };
  const line = (text: string) => print(`${column === 0 ? "" : "\n"}${text}\n`);

  return {
    json,
    result: (value, human) => line(json ? JSON.stringify(value) : human()),
    event: (value, human) => {
      const text = json ? JSON.stringify(value) : human();
      if (text !== undefined) line(text);
    },
    text: (chunk) => {
      if (!json && chunk !== "") print(printable(chunk));
    },
    note: (text) => {
      bar.clear();
      stderr.write(`${text}\n`);
    },
    progress: (text, fraction) => bar.show(printable(text), fraction),
    error: (error) => {
      bar.clear();
      if (json) line(JSON.stringify(errorDocument(error)));
      // A hub, or a sandbox behind it, may have had a say in this text.
      const detail = printable(error.message);
      stderr.write(`error: ${error.info.title}: ${detail}\nfix: ${printable(error.fix)}\n`);
    },
    bold: paint(1),
    dim: paint(2),
    green: paint(32),
    red: paint(31),
  };
}

/** What --json prints for a failure. */
export function errorDocument(error: DecoError): { ok: false } & Problem {
  return { ok: false, ...error.toProblem() };
}

/**
 * Takes control characters out of text that came from a sandbox: escape sequences could retitle the
 * terminal or write to its clipboard. Tab and line feed stay.
 */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- they are what is taken out
  return text.replaceAll(/[\u0000-\u0008\u000B-\u001F\u007F-\u009F]/g, "");
}
