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
    /** Puts bugs in; each has to be caught within `--seeds`. */
    mutations: { type: "boolean", default: false },
    "keep-going": { type: "boolean", default: false },
    /** Programs that share the seeds, 1,000 at a time each. */
    workers: { type: "string", default: "1" },
  },
});

if (Number(values.workers) > 1) process.exit(await shared());

redirectImports();
// Loaded only now: the product's modules come through the loader.
const { runMutations, runOne, runSeeds } = await import("./core/commands.ts");
replaceGlobals();

const eventsPerSeed = Number(values.events);
const many = { from: Number(values.from), seeds: Number(values.seeds), eventsPerSeed };
process.exitCode = values.mutations
  ? await runMutations({ ...many, json: values.json })
  : values.seed === undefined
    ? await runSeeds({
        ...many,
        json: values.json,
        stopAtFailure: !values["keep-going"],
      })
    : await runOne({ seed: Number(values.seed), eventsPerSeed, trace: values.trace });

async function shared(): Promise<number> {
  const { runInWorkers } = await import("./core/workers.ts");
  const summary = await runInWorkers({
    from: Number(values.from),
    seeds: Number(values.seeds),
    eventsPerSeed: Number(values.events),
    keepGoing: values["keep-going"],
    workers: Number(values.workers),
    onTrouble: (text) => process.stderr.write(text),
  });
  process.stdout.write(`${JSON.stringify(summary)}\n`);
  return summary.failed > 0 ? 1 : 0;
}
