import { once } from "node:events";
import type { Writable } from "node:stream";

/**
 * Writes a web stream into a node stream and ends it. Waits for `drain`, so nothing piles up; the
 * source is cancelled when the sink closes first.
 */
export async function pumpBody(
  source: ReadableStream<Uint8Array>,
  sink: Writable,
  signal: AbortSignal,
): Promise<void> {
  const reader = source.getReader();
  const closed = new AbortController();
  const abandon = () => {
    reader.cancel(new Error("the receiver closed")).catch(() => undefined);
  };
  const onClose = () => {
    closed.abort();
    abandon();
  };
  sink.once("close", onClose);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (closed.signal.aborted) return;
      signal.throwIfAborted();
      if (done) break;
      if (!sink.write(value)) await drained(sink, closed.signal);
    }
    sink.end();
  } catch (error) {
    abandon();
    throw error;
  } finally {
    sink.off("close", onClose);
    reader.releaseLock();
  }
}

async function drained(sink: Writable, closed: AbortSignal): Promise<void> {
  if (closed.aborted) return;
  try {
    await once(sink, "drain", { signal: closed });
  } catch (error) {
    if (!closed.aborted) throw error;
  }
}
