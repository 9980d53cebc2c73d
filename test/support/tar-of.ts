import type { TarKind } from "../../src/protocol/tar-read.ts";
import { TAR_END_BYTES, tarHeader, tarPadding } from "../../src/protocol/tar-write.ts";

interface MemberFields {
  readonly kind?: TarKind;
  readonly text?: string;
  readonly mode?: number;
  readonly target?: string;
  /** Type byte of the header, for what no writer of ours makes. */
  readonly type?: string;
  /** A size that lies. */
  readonly size?: number;
}

/** One member of a tar for tests, hostile ones too. */
export function member(path: string, o: MemberFields): Uint8Array {
  const content = new TextEncoder().encode(o.text ?? "");
  const { kind = "file", mode = 0o644, target = "", size = content.length } = o;
  const header = tarHeader({
    path: kind === "directory" ? path.replace(/\/$/, "") : path,
    kind,
    size,
    mode,
    target,
    mtime: 1_700_000_000,
  });
  if (o.type !== undefined) retype(header, o.type);
  return Buffer.concat([header, content, new Uint8Array(tarPadding(content.length))]);
}

export function tarOf(members: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat([...members, new Uint8Array(TAR_END_BYTES)]));
}

export function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new Blob([new Uint8Array(bytes)]).stream();
}

function retype(header: Uint8Array, type: string): void {
  header[156] = type.charCodeAt(0);
  header.fill(0x20, 148, 156);
  const sum = header.reduce((all, byte) => all + byte, 0);
  header.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
}
