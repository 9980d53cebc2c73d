import { expect, test } from "bun:test";
import { stat } from "node:fs/promises";
import { startHarnessd } from "./harnessd-process.ts";

const own = process.getuid?.() ?? 0;

test("its socket is owned by whom it is told, and open to nobody else", async () => {
  // Only root may give a file away; its own uid anybody may name.
  const uid = own === 0 ? 12_345 : own;
  await using harnessd = await startHarnessd({ env: { HARNESS_SOCKET_UID: String(uid) } });
  const found = await stat(harnessd.socketPath);
  expect([found.uid, found.mode & 0o777]).toEqual([uid, 0o600]);
});

test("an owner that is no number is told, and nothing starts", async () => {
  const started = startHarnessd({ env: { HARNESS_SOCKET_UID: "root" } });
  await expect(started).rejects.toThrow("HARNESS_SOCKET_UID is not a number");
});
