import { open } from "node:fs/promises";

/** One line of an event log. */
export interface LogLine {
  readonly seq: number;
  readonly type: string;
  /** The JSON text. */
  readonly data: string;
  /** Offset of the byte behind the line's newline. */
  readonly end: number;
}

const CHUNK_BYTES = 64 * 1024;
const NEWLINE = 0x0a;
/** `id` and `type` stand first in every line, and `id` and `run_id` hold nothing that needs escaping. */
const HEAD = /^\{"id":"[^"]*:(\d+)","run_id":"[^"]*","type":"([^"]*)"/;

/**
 * Reads the whole lines between two offsets, a chunk's worth at a time. Stops quietly before a line
 * that is torn or not ours.
 */
export async function* readLines(
  path: string,
  start: number,
  end: number,
): AsyncGenerator<readonly LogLine[]> {
  if (start >= end) return;
  const file = await open(path, "r");
  try {
    let offset = start;
    let lineStart = start;
    let rest: Buffer = Buffer.alloc(0);
    while (offset < end) {
      const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, end - offset));
      const { bytesRead } = await file.read(chunk, 0, chunk.length, offset);
      if (bytesRead === 0) return;
      offset += bytesRead;
      const bytes = Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
      const { lines, used, torn } = split(bytes, lineStart);
      lineStart += used;
      rest = bytes.subarray(used);
      if (lines.length > 0) yield lines;
      if (torn) return;
    }
  } finally {
    await file.close();
  }
}

function split(bytes: Buffer, start: number): { lines: LogLine[]; used: number; torn: boolean } {
  const lines: LogLine[] = [];
  let used = 0;
  for (;;) {
    const newline = bytes.indexOf(NEWLINE, used);
    if (newline < 0) return { lines, used, torn: false };
    const data = bytes.toString("utf8", used, newline);
    const head = HEAD.exec(data);
    if (!head?.[1] || head[2] === undefined || !data.endsWith("}")) {
      return { lines, used, torn: true };
    }
    used = newline + 1;
    lines.push({ seq: Number(head[1]), type: head[2], data, end: start + used });
  }
}
