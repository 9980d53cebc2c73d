import type { Platform } from "../templates/template.ts";

/** What programs of an image are made for. */
export interface Target {
  readonly platform: Platform;
  readonly libc: "glibc" | "musl";
}

/** This machine's own platform, which its engine runs without emulation. */
export function hostPlatform(): Platform {
  return process.arch === "arm64" ? "linux/arm64" : "linux/amd64";
}

/** This machine itself. */
export const hostTarget = (): Target => ({ platform: hostPlatform(), libc: "glibc" });

/** npm's word for the architecture: x64 or arm64. */
export function npmArch({ platform }: Target): "x64" | "arm64" {
  return platform === "linux/arm64" ? "arm64" : "x64";
}

/** Whether this machine's own programs and libraries fit. */
export function isHost({ platform, libc }: Target): boolean {
  return libc === "glibc" && platform === hostPlatform() && process.platform === "linux";
}
