import { PassThrough } from "node:stream";
import type Dockerode from "dockerode";
import { DecoError } from "../../../../protocol/errors.ts";
import type { ExecChunk } from "../../../provider.ts";
import type { Engine } from "../engine/engine.ts";
import { killHere } from "./processes.ts";

interface ExecOptions {
  readonly engine: Engine;
  readonly containerId: string;
  readonly command: readonly string[];
  readonly signal: AbortSignal;
}

/**
 * Runs a program in a container as the sandbox's user, in /workspace, without input. When the reader
 * leaves or `signal` aborts, the program is ended where engine and daemon share a kernel.
 *
 * @throws sandbox_failed, docker_unavailable
 */
export async function* execIn(o: ExecOptions): AsyncGenerator<ExecChunk> {
  const { engine, signal } = o;
  const { exec, stream, output } = await begin(o);
  const onAbort = () => output.destroy(new DecoError("draining", "whoever asked has left"));
  signal.addEventListener("abort", onAbort, { once: true });
  let ended = false;
  try {
    const chunks: AsyncIterable<ExecChunk> = output;
    yield* chunks;
    ended = true;
  } finally {
    signal.removeEventListener("abort", onAbort);
    if (!ended) {
      await endIt(o, exec);
      stream.destroy();
    }
  }
  const { ExitCode: code } = await inspect(engine, exec, signal);
  if (code === null || code === undefined) {
    throw new DecoError("sandbox_lost", "the sandbox ended while the program ran");
  }
  yield { exitCode: code };
}

async function begin({ engine, containerId, command, signal }: ExecOptions) {
  return await engine.call(
    "start a program",
    async (docker) => {
      const exec = await docker.getContainer(containerId).exec({
        Cmd: [...command],
        WorkingDir: "/workspace",
        AttachStdout: true,
        AttachStderr: true,
      });
      const stream = await exec.start({ hijack: true, stdin: false });
      return { exec, stream, output: readable(docker, stream) };
    },
    { signal },
  );
}

/** Both streams as chunks, in the engine's order. */
function readable(docker: Dockerode, stream: NodeJS.ReadWriteStream): PassThrough {
  const output = new PassThrough({ objectMode: true });
  output.on("drain", () => stream.resume());
  const sink = (name: "stdout" | "stderr") => {
    const decoder = new TextDecoder();
    const side = new PassThrough();
    side.on("data", (bytes: Buffer) => {
      const content = decoder.decode(bytes, { stream: true });
      if (content !== "" && !output.write({ stream: name, content })) stream.pause();
    });
    return side;
  };
  docker.modem.demuxStream(stream, sink("stdout"), sink("stderr"));
  stream.on("end", () => output.end());
  stream.on("error", (error) => output.destroy(error));
  return output;
}

async function endIt({ engine, containerId }: ExecOptions, exec: Dockerode.Exec): Promise<void> {
  const signal = AbortSignal.timeout(5_000);
  const found = await inspect(engine, exec, signal).catch(() => undefined);
  if (found?.Running) await killHere(found.Pid, containerId);
}

const inspect = (engine: Engine, exec: Dockerode.Exec, signal: AbortSignal) =>
  engine.call("look at a program", (docker) => docker.getExec(exec.id).inspect(), { signal });
