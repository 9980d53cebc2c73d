import { RunStatus } from "../protocol/run-events.ts";
import type { HubContext } from "./hub-context.ts";

/** The hub in Prometheus' text format: numbers only, no name of a user, link or run. */
export function metricsText({ presence, store, version }: HubContext): string {
  const runs = store.runs.countByStatus();
  return [
    ...gauge("deco_hub_info", "This build.", [[`version="${version}"`, 1]]),
    ...gauge(
      "deco_hub_links",
      "Links by presence.",
      Object.entries(presence.counts()).map(([status, n]) => [`status="${status}"`, n]),
    ),
    ...gauge(
      "deco_hub_runs",
      "Runs in the store by status.",
      RunStatus.options.map((status) => [`status="${status}"`, runs.get(status) ?? 0]),
    ),
    "",
  ].join("\n");
}

function gauge(
  name: string,
  help: string,
  samples: readonly (readonly [string, number])[],
): string[] {
  const lines = samples.map(([labels, value]) => `${name}{${labels}} ${value}`);
  return [`# HELP ${name} ${help}`, `# TYPE ${name} gauge`, ...lines];
}
