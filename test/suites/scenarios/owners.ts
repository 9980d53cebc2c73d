import { expect, test } from "bun:test";
import type { EnsureContext, SandboxProvider } from "../../../src/sandbox/provider.ts";

export interface OwnerScenarios<Parts> {
  readonly instance: () => Promise<{
    provider: SandboxProvider;
    parts: Parts;
    context: EnsureContext;
  }>;
  /** The provider of the next daemon of the same home. */
  readonly open: (parts: Parts) => SandboxProvider;
  readonly signal: AbortSignal;
}

/** Whose a sandbox is outlives the daemon, and whoever makes it first stays its owner. */
export function ownerScenarios<Parts>({ instance, open, signal }: OwnerScenarios<Parts>): void {
  test("a sandbox of the laptop's owner is nobody else's, also after a daemon restart", async () => {
    const { provider, parts, context } = await instance();
    const own = { ...context, owner: "@local" };
    const made = await provider.ensure("own", {}, own, signal);
    expect(made).toMatchObject({ owner: "@local" });
    const next = open(parts);
    expect(await next.list(signal)).toMatchObject([{ handle: "own", owner: "@local" }]);
    for (const owner of ["ada", "@hub"]) {
      const refused = next.ensure("own", {}, { ...context, owner }, signal);
      await expect(refused).rejects.toMatchObject({ code: "run_conflict" });
    }
    expect(await next.ensure("own", {}, own, signal)).toMatchObject({ id: made.id });
    await next.remove("own", signal);
  }, 60_000);

  test("the laptop's owner may use a hub's sandbox, which stays the hub's; one without a mark has none", async () => {
    const { provider, parts, context } = await instance();
    await provider.ensure("hubs", {}, { ...context, owner: "ada" }, signal);
    const next = open(parts);
    const used = await next.ensure("hubs", {}, { ...context, owner: "@local" }, signal);
    expect(used).toMatchObject({ owner: "ada" });
    await provider.ensure("old", {}, context, signal);
    const found = await next.ensure("old", {}, { ...context, owner: "ada" }, signal);
    expect(found).not.toHaveProperty("owner");
    for (const handle of ["hubs", "old"]) await next.remove(handle, signal);
  }, 60_000);
}
