import type { DecoError } from "../protocol/errors.ts";

/** What the daemon holds after a registration. The two secrets stay in memory. */
export interface LinkSession {
  readonly linkId: string;
  readonly epoch: number;
  readonly linkSecret: string;
  /** 32 bytes. */
  readonly signingKey: Uint8Array;
  readonly heartbeatIntervalMs: number;
  readonly ttlMs: number;
}

/** Where the link stands. `since` and `retryAt` are milliseconds of the laptop's clock. */
export type LinkState =
  | { readonly type: "connecting"; readonly since: number; readonly attempt: number }
  | (Enrolled & { readonly type: "dialling"; readonly error?: DecoError })
  | (Enrolled & { readonly type: "advertising" | "online" })
  | Paused<"waiting">
  | Paused<"unauthorised">
  | { readonly type: "stopped"; readonly since: number; readonly error?: DecoError };

interface Enrolled {
  readonly since: number;
  readonly linkId: string;
  readonly epoch: number;
}

interface Paused<T extends string> {
  readonly type: T;
  readonly since: number;
  readonly retryAt: number;
  readonly error: DecoError;
}

export type LinkEvent =
  | { readonly type: "connect"; readonly attempt: number }
  | { readonly type: "registered"; readonly session: LinkSession }
  | { readonly type: "tunnel_up" }
  | { readonly type: "tunnel_down"; readonly error: DecoError }
  | { readonly type: "advertised" }
  | { readonly type: "wait" | "unauthorised"; readonly retryAt: number; readonly error: DecoError }
  | { readonly type: "stop"; readonly error?: DecoError };

/** The only place where a link's state changes. Events that don't fit the state change nothing. */
export function nextState(state: LinkState, event: LinkEvent, now: number): LinkState {
  switch (event.type) {
    case "connect":
      return { type: "connecting", since: now, attempt: event.attempt };
    case "registered": {
      const { linkId, epoch } = event.session;
      return { type: "dialling", since: now, linkId, epoch };
    }
    case "tunnel_up":
      if (state.type !== "dialling") return state;
      return { type: "advertising", since: now, linkId: state.linkId, epoch: state.epoch };
    case "tunnel_down":
      if (!isEnrolled(state)) return state;
      return {
        type: "dialling",
        since: state.type === "dialling" ? state.since : now,
        linkId: state.linkId,
        epoch: state.epoch,
        error: event.error,
      };
    case "advertised":
      if (state.type !== "advertising") return state;
      return { type: "online", since: now, linkId: state.linkId, epoch: state.epoch };
    case "wait":
      return { type: "waiting", since: now, retryAt: event.retryAt, error: event.error };
    case "unauthorised":
      return { type: "unauthorised", since: now, retryAt: event.retryAt, error: event.error };
    case "stop":
      break;
  }
  return { type: "stopped", since: now, ...(event.error ? { error: event.error } : {}) };
}

function isEnrolled(state: LinkState): state is Extract<LinkState, Enrolled> {
  return state.type === "dialling" || state.type === "advertising" || state.type === "online";
}
