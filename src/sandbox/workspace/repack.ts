import { createHash, randomBytes } from "node:crypto";
import { DecoError } from "../../protocol/errors.ts";
import { type TarEntry, TarReader, type TarSink } from "../../protocol/tar-read.ts";
import { TAR_END_BYTES, tarHeader, tarPadding } from "../../protocol/tar-write.ts";

/** The name that a member gets, or nothing to leave it out. */
export type Rename = (entry: TarEntry) => string | undefined;

/** Members that one tar may have; what is noted of them takes some 30 bytes each. */
const MAX_MEMBERS = 1_000_000;

/**
 * A tar with some members left out and others renamed, as it comes in. Targets of hard links are
 * renamed by `target`; one whose first name was left out is left out too.
 *
 * @throws body_too_large, in the middle of the stream, for more than a million members (`most`)
 */
export function repack(
  source: ReadableStream<Uint8Array>,
  o: { name: Rename; target: (path: string) => string; most?: number },
): ReadableStream<Uint8Array> {
  const sent = notedNames(o.most ?? MAX_MEMBERS);
  let passing: TarEntry | undefined;
  return piped(source, (emit) => ({
    entry(entry) {
      passing = undefined;
      const path = entry.kind === "other" ? undefined : o.name(entry);
      if (path === undefined) return;
      const target = entry.kind === "hardlink" ? o.target(entry.target) : entry.target;
      if (entry.kind === "hardlink" && !sent.has(target)) return;
      if (entry.kind !== "directory") sent.add(path);
      passing = entry;
      emit(tarHeader({ ...entry, path, target }));
    },
    data: (bytes) => passing !== undefined && emit(bytes.slice()),
    fileEnd: () => passing !== undefined && emit(new Uint8Array(tarPadding(passing.size))),
    end: () => emit(new Uint8Array(TAR_END_BYTES)),
  }));
}

/**
 * Names by 48 bits of a hash each, for a guest's may have 4,096 bytes. Keyed, so that nobody makes two
 * that have the same.
 */
function notedNames(most: number) {
  const key = randomBytes(16);
  const noted = new Set<number>();
  const numberOf = (name: string) =>
    createHash("sha256").update(key).update(name).digest().readUIntBE(0, 6);
  return {
    has: (name: string) => noted.has(numberOf(name)),
    add: (name: string) => {
      noted.add(numberOf(name));
      if (noted.size <= most) return;
      throw new DecoError("body_too_large", `over ${most} files and links were chosen`, {
        fix: "Name fewer of them: a folder below, or a narrower pattern.",
      });
    },
  };
}

/**
 * The content of the one file that a tar begins with.
 *
 * @throws file_not_found where it begins with something else
 */
export async function onlyFile(
  source: ReadableStream<Uint8Array>,
): Promise<{ entry: TarEntry; body: ReadableStream<Uint8Array> }> {
  const seen: { entry?: TarEntry } = {};
  const body = piped(source, (emit) => ({
    entry(entry) {
      if (seen.entry === undefined && entry.kind === "file") emit(new Uint8Array(0));
      seen.entry ??= entry;
    },
    data: (bytes) => emit(bytes.slice()),
  }));
  const reader = body.getReader();
  const first = await reader.read();
  const { entry } = seen;
  if (entry?.kind === "file") {
    const rest = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    });
    return { entry, body: rest };
  }
  await reader.cancel();
  if (entry === undefined || first.value !== undefined) {
    throw new DecoError("file_not_found", "there is no such file");
  }
  const what = entry.kind === "symlink" ? `a link to ${entry.target}` : `a ${entry.kind}`;
  throw new DecoError("file_not_found", `it is no file but ${what}`);
}

interface PipedSink extends Omit<TarSink, "data" | "fileEnd"> {
  data?(bytes: Uint8Array): unknown;
  fileEnd?(): unknown;
  end?(): void;
}

/** Reads a tar only as fast as what comes of it is read. */
function piped(
  source: ReadableStream<Uint8Array>,
  make: (emit: (bytes: Uint8Array) => void) => PipedSink,
): ReadableStream<Uint8Array> {
  const queue: Uint8Array[] = [];
  const sink = make((bytes) => void queue.push(bytes));
  const tar = new TarReader({
    entry: (entry) => sink.entry(entry),
    data: (bytes) => void sink.data?.(bytes),
    fileEnd: () => void sink.fileEnd?.(),
  });
  const reader = source.getReader();
  const step = async () => {
    try {
      const { done, value } = await reader.read();
      if (done) tar.end();
      else tar.push(value);
      if (done) sink.end?.();
      return done;
    } catch (thrown) {
      // Who reads a broken stream does not cancel it, and its source has files or a connection open.
      await reader.cancel(thrown).catch(() => undefined);
      throw thrown;
    }
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        let ended = false;
        while (queue.length === 0 && !ended) {
          ended = await step();
        }
        for (const bytes of queue.splice(0)) controller.enqueue(bytes);
        if (ended) controller.close();
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
