/** An image of somebody else's that ours are built on, instead of from scratch. */
export interface Foundation {
  /** As it stands behind FROM. */
  readonly reference: string;
  /** `sha256:…`; part of the tag of what is built on it. */
  readonly id: string;
  readonly libc: "glibc" | "musl";
  /** Its own files; the user `agent` is added to them. */
  readonly passwd: string;
  readonly group: string;
}
