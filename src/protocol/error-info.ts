/** What one code means, whoever raises it. */
export interface ErrorInfo {
  /** HTTP status used when this error leaves through a route. */
  readonly status: number;
  /** Short, constant summary (RFC 9457 `title`). */
  readonly title: string;
  /** Whether the same call may succeed later without a change by the user. */
  readonly retryable: boolean;
  /** What the user can do about it, as an imperative sentence. */
  readonly fix: string;
  /** Exit code of a command that ends with this error; 1 when absent. */
  readonly exit?: number;
}

/** One row of a table of codes. */
export function errorInfo(
  status: number,
  title: string,
  fix: string,
  more: { retryable?: boolean; exit?: number } = {},
): ErrorInfo {
  return {
    status,
    title,
    fix,
    retryable: more.retryable ?? false,
    ...(more.exit === undefined ? {} : { exit: more.exit }),
  };
}
