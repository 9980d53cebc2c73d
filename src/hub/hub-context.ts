import type { Auth } from "./auth.ts";
import type { DeviceFlow } from "./device-flow.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Guard } from "./guard.ts";
import type { HubKeys } from "./keys.ts";
import type { Presence } from "./presence.ts";
import type { Registry } from "./registry.ts";
import type { RunLog } from "./run-log.ts";
import type { Store } from "./store/open-store.ts";

/** What the routes work with; built once, in main. */
export interface HubContext {
  readonly store: Store;
  readonly keys: HubKeys;
  readonly guard: Guard;
  readonly auth: Auth;
  readonly registry: Registry;
  readonly presence: Presence;
  readonly dispatcher: Dispatcher;
  readonly runLog: RunLog;
  readonly deviceFlow: DeviceFlow;
  readonly now: () => number;
  readonly version: string;
  /** Event streams of clients say a word so often, in ms. */
  readonly pingMs: number;
  /** Ends event streams when the hub goes. */
  readonly closing: AbortSignal;
  /** Where users reach this hub: the public URL, else as they dialled it. */
  readonly publicOrigin: (host: string | undefined) => string;
  readonly signInFailedPage?: (() => string) | undefined;
}
