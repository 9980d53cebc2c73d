import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { DecoError, type ErrorCode } from "../../protocol/errors.ts";
import { TarReader } from "../../protocol/tar-read.ts";
import { TAR_TYPE, type TarTotals, tarRules } from "../../protocol/tar-rules.ts";
import { harnessRequest } from "../harness-request.ts";
import type { HarnessEndpoint } from "../provider.ts";
import type { RunDir } from "../run-dir.ts";

export interface ArchiveUpload {
  /** A tar without compression. */
  readonly body: ReadableStream<Uint8Array>;
  /** What runs that wait for it call it. */
  readonly name?: string;
  /** Leaves files alone that are there already. */
  readonly keep?: boolean;
}

const Totals = z.object({ files: z.int(), bytes: z.int() });
const Refusal = z.object({ error: z.object({ code: z.string(), message: z.string() }) });
const ANSWER_BYTES = 64 * 1024;

/**
 * Streams a tar into a running sandbox, where its own harnessd unpacks it with the rights of the
 * sandbox: a link that a guest laid out leads it nowhere else. Every header is checked on the way;
 * a refused archive ends there, and what came before it stays.
 *
 * @throws archive_invalid, body_too_large, workspace_failed, isolation_unavailable, harness_unreachable
 */
export async function putArchive(
  endpoint: HarnessEndpoint,
  { body, keep = false }: ArchiveUpload,
  signal: AbortSignal,
): Promise<TarTotals> {
  const checked = checkedTar(body);
  try {
    const answer = await harnessRequest(
      endpoint,
      {
        method: "PUT",
        path: `/v1/archive${keep ? "?keep=1" : ""}`,
        headers: new Headers({ "content-type": TAR_TYPE }),
        body: checked.stream,
        deadlineMs: 0,
      },
      signal,
    );
    const text = await answer.text(ANSWER_BYTES);
    checked.throwIfRefused();
    if (answer.status !== 200) throw refusal(answer.status, text);
    return Totals.parse(JSON.parse(text));
  } catch (thrown) {
    signal.throwIfAborted();
    checked.throwIfRefused();
    throw thrown;
  }
}

/** The same bytes, as long as every header of them is one that may be unpacked. */
function checkedTar(source: ReadableStream<Uint8Array>) {
  let refused: unknown;
  const rules = tarRules();
  const tar = new TarReader({ entry: (entry) => void rules.check(entry) });
  const reader = source.getReader();
  const stream = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) tar.end();
        else tar.push(value);
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (thrown) {
        refused = thrown;
        controller.error(thrown);
        await reader.cancel(thrown).catch(() => undefined);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  const throwIfRefused = () => {
    if (refused !== undefined) throw DecoError.from(refused, "workspace_failed");
  };
  return { stream, throwIfRefused };
}

/** What harnessd says is a guest's word: good for a message, and for two codes of the request. */
function refusal(status: number, text: string): DecoError {
  if (status === 404) {
    return new DecoError("isolation_unavailable", "this sandbox's harnessd takes no archives", {
      fix: "Use an image with deco link's own harnessd.",
    });
  }
  const parsed = Refusal.safeParse(jsonOf(text));
  const { code, message } = parsed.data?.error ?? { code: "", message: `status ${status}` };
  const passed: readonly ErrorCode[] = ["archive_invalid", "body_too_large"];
  const known = passed.find((one) => one === code);
  return new DecoError(known ?? "workspace_failed", message.slice(0, 1000));
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/**
 * What is known of a sandbox's files outlives the daemon beside its record; a sandbox whose
 * directory was wiped waits for them again.
 */
export async function noteFilled(dir: RunDir, what: "archive" | "filled", name: string) {
  const path = join(dir.base, what);
  await writeFile(`${path}.new`, name, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** The name that was noted; undefined when nothing was. */
export async function notedFilled(
  dir: RunDir,
  what: "archive" | "filled",
): Promise<string | undefined> {
  return await readFile(join(dir.base, what), "utf8").catch(() => undefined);
}

/** An upload that begins makes what was noted before untrue. */
export async function forgetFilled(dir: RunDir, what: "archive" | "filled"): Promise<void> {
  await rm(join(dir.base, what), { force: true });
}
