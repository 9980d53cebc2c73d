// Stands for node:crypto in the programs under test: all of it, but with seeded chance.
import { theWorld } from "../core/current.ts";

export * from "node:crypto";

export function randomBytes(size: number): Buffer {
  const { random } = theWorld();
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i += 1) bytes[i] = random.int(0, 255);
  return bytes;
}

export function randomUUID(): string {
  const hex = randomBytes(16).toString("hex");
  return [8, 12, 16, 20, 32].map((end, i, all) => hex.slice(all[i - 1] ?? 0, end)).join("-");
}
