import { expect, test } from "bun:test";
import { DecoError } from "../../../src/protocol/errors.ts";
import type { SpecFacts } from "../../../src/sandbox/sandbox-spec.ts";
import { textOf, type WorkspaceScenarios } from "./workspaces.ts";

/** What a template says of a sandbox, on every provider. */
export function templateScenarios({
  instance,
  signal,
}: Pick<WorkspaceScenarios, "instance" | "signal">): void {
  const requires = { env: [], files: ["conf/agent.toml"] };
  const failureOf = async (facts: SpecFacts) => {
    const { provider, context } = await instance();
    const ensured = provider.ensure("tpl", { facts }, context, signal);
    const thrown: unknown = await ensured.then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(await provider.inspect("tpl", signal)).toBeUndefined();
    return DecoError.from(thrown);
  };

  test("a file that the template requires and nobody brings is refused before anything is made", async () => {
    const failure = await failureOf({ requires });
    expect(failure.code).toBe("config_missing");
    expect(failure.message).toContain("conf/agent.toml");
    expect(failure.fix).toContain("deco template show");
  });

  test("a file that the template requires and brings is there before any run", async () => {
    const { provider, context } = await instance();
    const facts = { requires, files: { "conf/agent.toml": { text: "a = 1\n" } } };
    await provider.ensure("tpl", { facts }, context, signal);
    expect(await textOf(provider, "tpl", "conf/agent.toml", signal)).toBe("a = 1\n");
    await provider.remove("tpl", signal);
  });

  test("a sandbox that is not ready within the template's budget is removed again", async () => {
    const failure = await failureOf({ readyBudgetMs: 1 });
    expect(failure.code).toBe("sandbox_failed");
    expect(failure.message).toContain("did not answer within 1 ms");
  });
}
