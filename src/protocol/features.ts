import type { SandboxSpec } from "./messages.ts";

/**
 * Fields of the sandbox object that daemons did not always know, and the feature by which a daemon
 * says at its registration that it does. A hub sends none of them without it.
 *
 * @see PROTOCOL.md, section "Registration"
 */
export const SANDBOX_FEATURES = {
  runtime: "sandbox.runtime",
  ports: "sandbox.ports",
  network: "sandbox.network",
} as const satisfies Partial<Record<keyof SandboxSpec, string>>;

/** What this build tells a hub when it registers. */
export const FEATURES: readonly string[] = Object.values(SANDBOX_FEATURES);

/** The features that a daemon must have for this sandbox object to be sent to it. */
export function neededFeatures(spec: SandboxSpec): string[] {
  return Object.entries(SANDBOX_FEATURES).flatMap(([field, feature]) =>
    Reflect.get(spec, field) === undefined ? [] : [feature],
  );
}
