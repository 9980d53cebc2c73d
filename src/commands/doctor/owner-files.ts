import { type Policy, readPolicy } from "../../daemon/policy.ts";
import { rulesPlaces } from "../../daemon/sandbox-rules.ts";
import type { OwnerFile } from "../../sandbox/templates/read-file.ts";
import { listTemplates } from "../../sandbox/templates/read-templates.ts";
import { readRuntimes } from "../../sandbox/templates/runtimes.ts";
import { type Check, fail, ok } from "./check.ts";

/** What the owner wrote by hand; each problem names the file and its line. */
export const ownerFileChecks: readonly Check[] = [
  {
    id: "policy",
    title: "policy",
    fix: "Correct policy.json.",
    run: async ({ config: { paths } }) => {
      const { policy: path } = rulesPlaces(paths.config);
      const policy = readPolicy(path);
      if (policy.type === "broken") {
        return fail(`${path}: ${policy.problem}`, `Correct ${path}; until then it grants nothing.`);
      }
      return ok(granted(policy));
    },
  },
  {
    id: "templates",
    title: "templates",
    fix: "Correct the files in the templates folder.",
    run: async ({ config: { paths } }) => {
      const places = rulesPlaces(paths.config);
      const all = listTemplates(places.templates);
      const broken = all.flatMap((one) =>
        "problem" in one ? [`${one.path}: ${one.problem}`] : [],
      );
      const { runtimes, problem } = readRuntimes(places.runtimes);
      if (problem !== undefined) broken.push(`${places.runtimes}: ${problem}`);
      if (broken.length > 0) return fail(broken.join("; "), "Correct or remove those files.");
      const names = all.map(({ name }) => name).join(", ");
      return ok(`${names}; runtimes ${Object.keys(runtimes).toSorted().join(", ")}`);
    },
  },
];

function granted(policy: OwnerFile<Policy>): string {
  if (policy.type !== "read") return "no policy.json: nobody has tiers 3 and 4, or folders";
  const { tiers = {}, workspaces = [] } = policy.value;
  const told = (["3", "4"] as const).map(
    (tier) => `tier ${tier}: ${(tiers[tier] ?? []).join(", ") || "nobody"}`,
  );
  return [...told, `${workspaces.length} folders`].join("; ");
}
