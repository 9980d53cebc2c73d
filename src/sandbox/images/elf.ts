import { open } from "node:fs/promises";

export interface ElfFile {
  /** ELF machine number: 62 x86-64, 183 AArch64. */
  readonly machine: number;
  /** Loader that the kernel starts for it; undefined: static. */
  readonly interpreter: string | undefined;
  /** Names of the shared libraries that it asks for (DT_NEEDED). */
  readonly needed: readonly string[];
}

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NEEDED = 1n;
const DT_STRTAB = 5n;
const DT_STRSZ = 10n;

/**
 * What a program is linked against, read from its headers: works for programs of other machines,
 * which `ldd` does not. 64 bit, little endian.
 *
 * @returns undefined when it is no such file
 * @see man 5 elf
 */
export async function readElf(path: string): Promise<ElfFile | undefined> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const read = async (offset: number, length: number) => {
      const buffer = Buffer.alloc(length);
      const { bytesRead } = await file.read(buffer, 0, length, offset);
      return buffer.subarray(0, bytesRead);
    };
    const head = (await file.stat()).isFile() ? await read(0, 64) : Buffer.alloc(0);
    if (head.length < 64 || head.readUInt32BE(0) !== 0x7f454c46 || head[4] !== 2) return undefined;
    const segments = await programHeaders(head, read);
    const interp = segments.find(({ type }) => type === PT_INTERP);
    return {
      machine: head.readUInt16LE(18),
      interpreter:
        interp && (await read(interp.offset, interp.size)).toString().replace(/\0.*/s, ""),
      needed: await neededOf(segments, read),
    };
  } finally {
    await file.close();
  }
}

type Read = (offset: number, length: number) => Promise<Buffer>;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

async function programHeaders(head: Buffer, read: Read): Promise<Segment[]> {
  const size = head.readUInt16LE(54);
  const table = await read(Number(head.readBigUInt64LE(32)), size * head.readUInt16LE(56));
  const segments: Segment[] = [];
  if (size < 56) return [];
  for (let at = 0, end = table.length - size; at <= end; at += size) {
    segments.push({
      type: table.readUInt32LE(at),
      offset: Number(table.readBigUInt64LE(at + 8)),
      address: Number(table.readBigUInt64LE(at + 16)),
      size: Number(table.readBigUInt64LE(at + 32)),
    });
  }
  return segments;
}

async function neededOf(segments: readonly Segment[], read: Read): Promise<string[]> {
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  if (dynamic === undefined) return [];
  const table = await read(dynamic.offset, dynamic.size);
  const entries: { tag: bigint; value: number }[] = [];
  for (let at = 0; at + 16 <= table.length; at += 16) {
    const value = Number(table.readBigUInt64LE(at + 8));
    entries.push({ tag: table.readBigInt64LE(at), value });
  }
  const valueOf = (tag: bigint) => entries.find((entry) => entry.tag === tag)?.value ?? 0;
  const address = valueOf(DT_STRTAB);
  const mapped = segments.find(
    (s) => s.type === PT_LOAD && s.address <= address && address < s.address + s.size,
  );
  if (mapped === undefined) return [];
  const strings = await read(address - mapped.address + mapped.offset, valueOf(DT_STRSZ));
  return entries
    .filter(({ tag }) => tag === DT_NEEDED)
    .map(({ value }) => strings.toString("latin1", value, strings.indexOf(0, value)));
}
