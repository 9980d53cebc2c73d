import { parseArgs } from "node:util";
import { replaceGlobals } from "./core/globals.ts";
import { redirectImports } from "./core/loader.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    events: { type: "string", default: "150" },
    trace: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    "keep-going": { type: "boolean", default: false },
  },
});

redirectImports();
// Loaded only now: the product's modules come through the loader.
const { runOne, runSeeds } = await import("./core/commands.ts");
replaceGlobals();

const eventsPerSeed = Number(values.events);
process.exitCode =
  values.seed === undefined
    ? await runSeeds({
        from: Number(values.from),
        seeds: Number(values.seeds),
        eventsPerSeed,
        json: values.json,
        stopAtFailure: !values["keep-going"],
      })
    : await runOne({ seed: Number(values.seed), eventsPerSeed, trace: values.trace });
