import type { JournalDraft } from "../journal.ts";

const DELTAS = new Set([
  "assistant.message.delta",
  "assistant.thinking.delta",
  "tool.output.delta",
]);
/** Longest content of a merged delta, in UTF-8 bytes. */
const MAX_MERGED_BYTES = 64 * 1024;

/**
 * Two neighbouring deltas of the same stream or call as one, which has the later one's place at
 * harnessd; undefined when they are not that, or too long. Only for what has no number yet.
 */
export function mergeDeltas(before: JournalDraft, next: JournalDraft): JournalDraft | undefined {
  if (before.type !== next.type || !DELTAS.has(next.type)) return undefined;
  const { content: head, ...rest } = before.payload;
  const { content: tail, ...others } = next.payload;
  if (typeof head !== "string" || typeof tail !== "string") return undefined;
  // At least so many bytes: cheap, and most are refused by it.
  if (head.length + tail.length > MAX_MERGED_BYTES) return undefined;
  if (Buffer.byteLength(head) + Buffer.byteLength(tail) > MAX_MERGED_BYTES) return undefined;
  if (JSON.stringify(rest) !== JSON.stringify(others)) return undefined;
  const { harnessEventId = before.harnessEventId } = next;
  return {
    ...before,
    payload: { ...before.payload, content: head + tail },
    ...(harnessEventId === undefined ? {} : { harnessEventId }),
  };
}
