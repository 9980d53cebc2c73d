import type Dockerode from "dockerode";

/** One message of the engine while it pulls or builds. */
export interface EngineMessage {
  readonly stream?: string;
  readonly status?: string;
  readonly error?: string;
  /** Of a layer: 12 hex digits. */
  readonly id?: string;
  readonly current?: number;
  readonly total?: number;
}

/**
 * Reads the answer of a pull or a build to its end: only then is the work done. Errors come as
 * messages inside an answer that began with 200.
 *
 * @returns the first error inside; undefined when there was none
 */
export function followProgress(
  docker: Dockerode,
  output: NodeJS.ReadableStream,
  onMessage: (message: EngineMessage) => void,
): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    let failed: string | undefined;
    docker.modem.followProgress(
      output,
      (error) => (error ? reject(error) : resolve(failed)),
      (event: unknown) => {
        const message = readMessage(event);
        failed ??= message.error;
        onMessage(message);
      },
    );
  });
}

function readMessage(event: unknown): EngineMessage {
  const fields = asFields(event);
  const detail = asFields(fields["progressDetail"]);
  const text = (name: string) =>
    typeof fields[name] === "string" ? { [name]: fields[name] } : undefined;
  const number = (name: string) =>
    typeof detail[name] === "number" ? { [name]: detail[name] } : undefined;
  return {
    ...text("stream"),
    ...text("status"),
    ...text("error"),
    ...text("id"),
    ...number("current"),
    ...number("total"),
  };
}

function asFields(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}
