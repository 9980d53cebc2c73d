import { createHash } from "node:crypto";

/** Where each chain starts: 32 zero bytes, as lower-case hex. */
export const CHAIN_START = "00".repeat(32);

/**
 * The next link of a run's chain: SHA-256(previous ‖ the daemon's `data` bytes).
 *
 * @param previous - 64 lower-case hex digits, {@link CHAIN_START} before the first event.
 * @param data - One event's `data` line, without its line feed, as UTF-8.
 * @returns 64 lower-case hex digits.
 * @see PROTOCOL.md, section "Run events"
 */
export function nextChain(previous: string, data: string): string {
  return createHash("sha256")
    .update(Buffer.from(previous, "hex"))
    .update(data, "utf8")
    .digest("hex");
}
