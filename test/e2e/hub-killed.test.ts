import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { RunEvent } from "../../src/protocol/run-events.ts";
import { isEnd, newHome, outputOf, seqsOf, upTo } from "../support/e2e-lab.ts";
import { leftovers, type Snapshot, takeSnapshot } from "../support/leftovers.ts";
import { type DecoResult, type RunningDeco, runDeco, startDeco } from "../support/run-deco.ts";

const LINES = 60;
const counting = `i=1; while [ $i -le ${LINES} ]; do echo line $i; i=$((i+1)); sleep 0.1; done`;
const counted = upTo(LINES)
  .map((line) => `line ${line}\n`)
  .join("");

const kill = async (program: RunningDeco) => {
  program.child.kill("SIGKILL");
  await program.ended;
};

const expectWhole = ({ code, lines }: DecoResult) => {
  const events = lines.map((line) => RunEvent.parse(JSON.parse(line)));
  expect(seqsOf(events)).toEqual(upTo(events.length));
  expect(outputOf(events)).toBe(counted);
  expect(events.filter(isEnd).map(({ type }) => type)).toEqual(["run.completed"]);
  expect(code).toBe(0);
};

describe("a hub that is killed: three programs, nothing but the commands of the README", () => {
  let home: string;
  let before: Snapshot;
  let hub: RunningDeco;
  let link: RunningDeco;
  let url: string;
  let token: string;
  const data = () => join(home, "hub-data");
  const startHub = async (port: string) => {
    hub = await startDeco(["hub", "--port", port, "--data", data(), "--json"], {
      home,
      timeoutMs: 300_000,
    });
    const [line] = await hub.until(/\{.*"hub\.listening".*\}/);
    ({ url } = z.object({ url: z.string() }).parse(JSON.parse(line)));
  };
  const startLink = async () => {
    const args = ["link", "--hub", url, "--local-sandbox-provider", "process", "--json"];
    link = await startDeco(args, { home, env: { DECO_TOKEN: token }, timeoutMs: 300_000 });
    await link.until(/"link\.online"/);
  };
  /** `deco run`, which is there all the time; what happens happens when that line is out. */
  const runWhile = async (line: number, happens: () => Promise<void>): Promise<DecoResult> => {
    const env = { DECO_TOKEN: token, DECO_HUB: url };
    await using run = await startDeco(["run", "--json", "--", counting], { home, env });
    await run.until(new RegExp(`line ${line}\\\\n`));
    await happens();
    return await run.ended;
  };

  beforeAll(async () => {
    home = await newHome();
    before = await takeSnapshot(home);
    await startHub("0");
    const made = await runDeco(["hub", "token", "--data", data(), "--json"], { home });
    ({ token } = z.object({ token: z.string() }).parse(JSON.parse(made.lines[0] ?? "")));
    await startLink();
  }, 60_000);
  afterAll(async () => {
    await link?.[Symbol.asyncDispose]();
    await hub?.[Symbol.asyncDispose]();
    await rm(home, { recursive: true, force: true });
  }, 30_000);

  test("kill -9 of the hub in mid-run: `deco run` waits, and tells every event once", async () => {
    const result = await runWhile(10, async () => {
      await kill(hub);
      await startHub(new URL(url).port);
    });
    expectWhole(result);
  }, 60_000);

  test("kill -9 of hub and daemon at once: both come back, and the run is whole", async () => {
    const result = await runWhile(10, async () => {
      await Promise.all([kill(hub), kill(link)]);
      await startHub(new URL(url).port);
      await startLink();
    });
    expectWhole(result);
  }, 60_000);

  test("SIGTERM ends both with 143, and nothing is left behind", async () => {
    link.child.kill("SIGTERM");
    expect((await link.ended).code).toBe(143);
    hub.child.kill("SIGTERM");
    expect((await hub.ended).code).toBe(143);
    const found = await leftovers(home, before);
    expect(found.filter((what) => !what.startsWith("volumes: "))).toEqual([]);
  }, 30_000);
});
