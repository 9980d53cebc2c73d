/** The part of a pino logger that sandboxes use: facts first, then what happens next. */
export interface SandboxLog {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
}
