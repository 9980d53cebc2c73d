import { expect, test } from "bun:test";
import { join } from "node:path";
import { runInWorkers } from "./core/workers.ts";

const MAIN = join(import.meta.dir, "main.ts");
/** `SEEDS=100000 bun test test/simulation` plays more. */
const SEEDS = Number(process.env["SEEDS"] ?? 10_000);
const SECONDS_EACH = 0.25;

/** In a program of its own: the simulation replaces the runtime's clocks and timers. */
async function simulate(...args: string[]) {
  const child = Bun.spawn([process.execPath, MAIN, ...args], { stdout: "pipe", stderr: "pipe" });
  const [exitCode, out, err] = await Promise.all([
    child.exited,
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { exitCode, lines: out.trim().split("\n"), err };
}

test(
  `whatever fails and when, each log is whole, in order and without doubles (${SEEDS} seeds)`,
  async () => {
    const troubles: string[] = [];
    const onTrouble = (text: string) => {
      process.stderr.write(text);
      troubles.push(text);
    };
    const summary = await runInWorkers({ from: 1, seeds: SEEDS, eventsPerSeed: 150, onTrouble });
    expect(troubles).toEqual([]);
    expect(summary).toMatchObject({ seeds: SEEDS, failed: 0 });
    expect(summary.events).toBeGreaterThan(80 * SEEDS);
    // What a world leaves behind would add up: a worker plays 1,000 of them, about 1 MiB each when
    // nothing is let go; a loaded machine's collector comes late.
    expect(summary.maxRssMib).toBeLessThan(800);
    // Every kind of fault was there, or the name of this test would promise too much.
    if (SEEDS >= 500) expect(Object.keys(summary.faults).length).toBe(19);
  },
  60_000 + SEEDS * SECONDS_EACH * 1000,
);

/** Plays 3 ranges in workers that do as `code` says. */
async function playWith(code: string, limitMs = 20_000) {
  const troubles: string[] = [];
  const summary = await runInWorkers({
    from: 1,
    seeds: 2500,
    eventsPerSeed: 150,
    workers: 1,
    keepGoing: true,
    limitMs,
    command: ({ from, seeds }) => [
      process.execPath,
      "-e",
      `const seeds = ${seeds}; if (${from} === 1001) { ${code} } else ${TELLS_WHOLE}`,
    ],
    onTrouble: (text) => troubles.push(text),
  });
  return { summary, troubles: troubles.join("") };
}

const TELLS_WHOLE = "console.log(JSON.stringify({ seeds, failed: 0 }))";
const REPLAY = "bun test/simulation/main.ts --from 1001 --seeds 1000 --events 150";

test("a worker that dies, hangs or plays too few seeds is a failure with its seeds told", async () => {
  const dead = await playWith("process.kill(process.pid, 'SIGKILL')");
  expect(dead.summary).toMatchObject({ seeds: 1500, failed: 1 });
  expect(dead.troubles).toContain("seeds 1001 to 2000: their worker ended with SIGKILL");
  expect(dead.troubles).toContain(REPLAY);
  const hung = await playWith("for (;;) {}", 1000);
  expect(hung.summary).toMatchObject({ seeds: 1500, failed: 1 });
  expect(hung.troubles).toContain("seeds 1001 to 2000");
  const short = await playWith("console.log(JSON.stringify({ seeds: 999, failed: 0 }))");
  expect(short.summary).toMatchObject({ seeds: 2499, failed: 1 });
  expect(short.troubles).toContain("ended with code 0 after 999 of them");
  expect((await playWith(TELLS_WHOLE)).summary).toMatchObject({ seeds: 2500, failed: 0 });
}, 60_000);

test("a seed that fails in a worker is told with the command that replays it", async () => {
  const told = await playWith(
    "console.error('replay it: --seed 1234'); console.log(JSON.stringify({ seeds, failed: 1 })); process.exit(1)",
  );
  expect(told.summary.failed).toBe(1);
  expect(told.troubles).toBe("replay it: --seed 1234\n");
}, 60_000);

function print(lines: readonly string[]): unknown {
  const summary: { print?: number } = JSON.parse(lines.at(-1) ?? "{}");
  return summary.print;
}

test("the same seed is the same world, step by step, in any order of seeds", async () => {
  const [alone] = (await simulate("--seed", "77")).lines.slice(-1);
  const [again] = (await simulate("--seed", "77", "--trace")).lines.slice(-1);
  expect(again).toBe(alone ?? "");
  const [many, once] = await Promise.all([
    simulate("--from", "70", "--seeds", "20", "--json"),
    simulate("--from", "70", "--seeds", "20", "--json"),
  ]);
  expect(print(many.lines)).toBe(print(once.lines));
}, 60_000);

test("each bug that is put in is noticed", async () => {
  const { exitCode, lines } = await simulate("--mutations", "--seeds", "400", "--json");
  const told = lines.map((line): { mutation: string; caught: string | null } => JSON.parse(line));
  expect(told.map(({ mutation }) => mutation)).toEqual([
    "dedupe off",
    "ack before store",
    "epoch compare dropped",
    "cancel forgotten on restart",
    "chain ignored",
  ]);
  expect(told.filter(({ caught }) => caught === null)).toEqual([]);
  expect(exitCode).toBe(0);
}, 240_000);
