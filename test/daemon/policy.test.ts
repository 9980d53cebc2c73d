import { afterAll, expect, test } from "bun:test";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allowTier, readPolicy } from "../../src/daemon/policy.ts";
import { rulesPlaces, sandboxRules } from "../../src/daemon/sandbox-rules.ts";
import { DecoError } from "../../src/protocol/errors.ts";

const home = await mkdtemp(join(tmpdir(), "deco-policy-"));
afterAll(() => rm(home, { recursive: true }));
const file = join(home, "policy.json");
const rules = sandboxRules(rulesPlaces(home));

async function write(policy: unknown, mode = 0o600): Promise<void> {
  await writeFile(file, typeof policy === "string" ? policy : JSON.stringify(policy));
  await chmod(file, mode);
}

function refusal(work: () => unknown): DecoError | undefined {
  try {
    work();
    return undefined;
  } catch (thrown) {
    return DecoError.from(thrown);
  }
}

const ada = { user: "ada", local: false };
const bob = { user: "bob", local: false };
const nobody = { local: false };
const owner = { local: true };

test("without a policy file tiers 3 and 4 are denied to everybody, 1 and 2 to nobody", async () => {
  await rm(file, { force: true });
  for (const tier of [3, 4]) {
    for (const asker of [ada, nobody, owner]) {
      const error = refusal(() => rules.resolve({ tier }, asker));
      expect([error?.code, error?.info.status]).toEqual(["policy_denied", 409]);
    }
  }
  for (const tier of [0, 1, 2, 5, -1]) {
    expect(rules.resolve({ tier }, ada)).toMatchObject({ tier });
  }
});

test("a grant is for one tier and one asker, and counts from the next dispatch on", async () => {
  await write({ version: 1, tiers: { "3": ["ada"], "4": ["@local"] } });
  const may = (tier: number, asker: typeof ada | typeof nobody) =>
    refusal(() => rules.resolve({ tier }, asker)) === undefined;
  expect([may(3, ada), may(4, ada), may(3, bob), may(3, nobody)]).toEqual([
    true,
    false,
    false,
    false,
  ]);
  expect([may(3, owner), may(4, owner)]).toEqual([false, true]);
  // A hub that calls its user so, or names none, is not the laptop's own socket.
  expect([may(4, { user: "@local", local: false }), may(4, nobody)]).toEqual([false, false]);
  await write({ version: 1, tiers: { "3": ["*"] } });
  expect([may(3, bob), may(3, nobody), may(3, owner), may(4, bob)]).toEqual([
    true,
    true,
    true,
    false,
  ]);
  await write({ version: 1 });
  expect(may(3, ada)).toBe(false);
});

test("a template's tier is asked for like a request's own, and the request's own wins", async () => {
  await write({ version: 1 });
  const folder = await mkdtemp(join(tmpdir(), "deco-policy-t-"));
  await writeFile(join(folder, "root.json"), '{"version": 1, "tier": 3}');
  const other = sandboxRules({ templates: folder, runtimes: "/dev/null/x", policy: file });
  expect(refusal(() => other.resolve({ template: "root" }, ada))?.code).toBe("policy_denied");
  expect(other.resolve({ template: "root", tier: 2 }, ada)).toMatchObject({ tier: 2 });
  await rm(folder, { recursive: true });
});

test("a broken policy grants nothing, and the error names its line", async () => {
  const broken: [string, string][] = [
    ['{\n"version": 1,\n"tiers": {"3": ["ada"]\n}', "line 4"],
    ['{\n"version": 1,\n"tiers": {"3": ["ada"]},\n"tires": {}\n}', "line 4: tires"],
    ['{\n"version": 1,\n"tiers": {\n"3": ["ada"],\n"5": []}\n}', "line 5: tiers.5"],
    ['{\n"version": 1,\n"tiers": {\n"3": "ada"}\n}', "line 4: tiers.3"],
    ['{\n"version": 2,\n"tiers": {"3": ["ada"]}\n}', "line 2: version"],
    ['{"version": 1,\n"tiers": {"3": ["ada"],\n"3": []}}', 'line 3: "3" is there twice'],
    ['{"version": 1,\n"workspaces": [\n{"path": "code", "modes": ["read_only"]}]}', "line 3"],
  ];
  for (const [text, line] of broken) {
    await write(text);
    const error = refusal(() => allowTier(readPolicy(file), 3, ada));
    expect(error?.code).toBe("policy_denied");
    expect(error?.message).toContain(line);
  }
});

test("a policy that other users may write grants nothing", async () => {
  await write({ version: 1, tiers: { "3": ["*"] } }, 0o662);
  expect(refusal(() => allowTier(readPolicy(file), 3, ada))?.message).toContain("others");
  await chmod(file, 0o644);
  expect(refusal(() => allowTier(readPolicy(file), 3, ada))).toBeUndefined();
});
