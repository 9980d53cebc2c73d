import { expect, test } from "bun:test";
import { join } from "node:path";

const MAIN = join(import.meta.dir, "main.ts");
/** The long form: `SEEDS=10000 bun test test/simulation`. */
const SEEDS = Number(process.env["SEEDS"] ?? 600);
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
    const { exitCode, lines, err } = await simulate("--seeds", String(SEEDS), "--json");
    expect(err).toBe("");
    expect(exitCode).toBe(0);
    const summary = JSON.parse(lines.at(-1) ?? "{}");
    expect(summary).toMatchObject({ seeds: SEEDS, failed: 0 });
    expect(summary.events).toBeGreaterThan(80 * SEEDS);
    // Every kind of fault was there, or the name of this test would promise too much.
    if (SEEDS >= 500) expect(Object.keys(summary.faults).length).toBe(19);
  },
  60_000 + SEEDS * SECONDS_EACH * 1000,
);

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
