import { randomBytes } from "node:crypto";
import { z } from "zod";
import { DecoError } from "../protocol/errors.ts";
import { fromBase64Url, toBase64Url } from "../protocol/keys.ts";
import { readPrivateJson, writePrivateJson } from "./private-file.ts";

const InstanceFile = z.looseObject({
  instanceId: z.string().regex(/^[a-z0-9]{6,32}$/),
  modelTokenKey: z.string().length(43),
});

/** What belongs to a home whoever it is enrolled as: its sandboxes outlive a revoked identity. */
export interface Instance {
  /** On the labels of everything that this home makes, so that a neighbour's is never touched. */
  readonly instanceId: string;
  /** 32 bytes; runs that outlive a daemon keep their model token. */
  readonly modelTokenKey: Uint8Array;
}

/** @throws DecoError `storage_failed` when the file is damaged or open to others. */
export async function openInstance(path: string): Promise<Instance> {
  const found = await readPrivateJson(path);
  const file = found ?? {
    instanceId: randomBytes(5).toString("hex"),
    modelTokenKey: toBase64Url(randomBytes(32)),
  };
  const parsed = InstanceFile.safeParse(file);
  if (!parsed.success) {
    throw new DecoError("storage_failed", `${path} is damaged`, {
      fix: `Restore ${path}, or delete it; sandboxes made under it then stay behind.`,
    });
  }
  if (found === undefined) await writePrivateJson(path, file);
  const { instanceId, modelTokenKey } = parsed.data;
  return { instanceId, modelTokenKey: fromBase64Url(modelTokenKey) };
}
