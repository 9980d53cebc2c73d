import { against, quantile } from "../result.ts";
import { dockerRemove, dockerRun } from "./docker-run.ts";
import type { Measure, SandboxLab } from "./lab.ts";

const CROWD = 20;
const ROUNDS = 3;
const HANDLES = Array.from({ length: CROWD }, (_, i) => `crowd-${i}`);

/** 20 at once, then all of them removed; ours and the rival by turns. */
export const crowd: Measure = async (lab) => {
  const ours: Times[] = [];
  const dark: Times[] = [];
  const rival: Times[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(await ourCrowd(lab, {}));
    rival.push(await rivalCrowd(lab));
    dark.push(await ourCrowd(lab, { egress: "none" }));
  }
  const row = (metric: string, mine: readonly Times[], rivalName: string, what: keyof Times) =>
    against({
      metric,
      unit: "ms",
      ours: quantile(
        mine.map((times) => times[what]),
        0.5,
      ),
      rival: quantile(
        rival.map((times) => times[what]),
        0.5,
      ),
      rivalName,
      runs: mine.length,
    });
  return [
    row("parallel_20_ms", ours, "20 × docker run", "upMs"),
    row("teardown_20_ms", ours, "docker rm -f of 20", "downMs"),
    row("parallel_20_no_egress_ms", dark, "20 × docker run", "upMs"),
    row("teardown_20_no_egress_ms", dark, "docker rm -f of 20", "downMs"),
  ];
};

interface Times {
  readonly upMs: number;
  readonly downMs: number;
}

async function ourCrowd(
  { engine, ensure, settle, signal }: SandboxLab,
  spec: { egress?: "none" },
): Promise<Times> {
  await settle();
  const upMs = await timed(() => Promise.all(HANDLES.map((h) => ensure(engine, h, spec))));
  await settle();
  const downMs = await timed(() => Promise.all(HANDLES.map((h) => engine.remove(h, signal))));
  return { upMs, downMs };
}

async function rivalCrowd({ image, settle, signal }: SandboxLab): Promise<Times> {
  await settle();
  let ids: string[] = [];
  const upMs = await timed(async () => {
    ids = await Promise.all(HANDLES.map(() => dockerRun(image, signal)));
  });
  await settle();
  return { upMs, downMs: await timed(() => dockerRemove(ids, signal)) };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
