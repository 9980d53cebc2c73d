import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import type { JWK } from "jose";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import { newMachineKey } from "../protocol/proof.ts";
import { readPrivateJson, writePrivateJson } from "./private-file.ts";

const Ed25519 = z.looseObject({
  kty: z.literal("OKP"),
  crv: z.literal("Ed25519"),
  x: z.string().length(43),
});
const MachineFile = z.looseObject({
  machineId: z.string().min(1).max(128),
  createdAt: z.string(),
  privateJwk: Ed25519.extend({ d: z.string().length(43) }),
});

/** The laptop as the hub knows it. The private key never leaves this process and its file. */
export interface Identity {
  /** Random per home. */
  readonly machineId: string;
  readonly privateJwk: JWK;
  readonly publicJwk: { readonly kty: "OKP"; readonly crv: "Ed25519"; readonly x: string };
}

/**
 * Reads the identity of a home, or makes one. Call it while holding the home's lock.
 *
 * @throws DecoError `storage_failed` when the file is damaged, readable by others or not ours.
 */
export async function openIdentity(path: string): Promise<Identity> {
  const found = await readPrivateJson(path);
  if (found !== undefined) return parseIdentity(found, path);
  const { privateJwk } = await newMachineKey();
  const file = { machineId: randomUUID(), createdAt: new Date().toISOString(), privateJwk };
  await writePrivateJson(path, file);
  return parseIdentity(file, path);
}

/** Wipes the key after the hub revoked it; the next start enrols as a new machine. */
export async function wipeIdentity(path: string): Promise<void> {
  await rm(path, { force: true });
}

function parseIdentity(value: unknown, path: string): Identity {
  const parsed = MachineFile.safeParse(value);
  if (!parsed.success) {
    throw new DecoError("storage_failed", `${path} is not an identity of ours`, {
      fix: `Restore ${path} from a backup, or delete it to enrol as a new machine.`,
    });
  }
  const { machineId, privateJwk } = parsed.data;
  const { kty, crv, x, d } = privateJwk;
  return { machineId, privateJwk: { kty, crv, x, d }, publicJwk: { kty, crv, x } };
}
