import { CHAIN_START, nextChain } from "../../../src/protocol/chain.ts";
import { RunEvent, terminalStatus } from "../../../src/protocol/run-events.ts";
import { type Script, wordOf } from "../nodes/script.ts";
import { scriptOfRun } from "./script-of-run.ts";
import type { Laptop, Simulation } from "./simulation.ts";
import type { Wished } from "./user.ts";

/** Whether the hub has nothing left to do and each wish has become a run. */
export function isSettled(sim: Simulation, wishes: readonly Wished[]): boolean {
  if (sim.world.now < sim.world.beganAt + sim.scenario.clearsAtMs) return false;
  if (wishes.some(({ reader }) => reader?.ended !== true && !isForgotten(sim, reader?.runId))) {
    return false;
  }
  if (sim.homecoming) return false;
  // Of two daemons with one identity, one has to be told that it is the older one.
  if (sim.laptops.filter(({ daemon }) => daemon !== undefined).length > 1) return false;
  const open = sim.fixture.hubDisk.get("SELECT count(*) AS n FROM runs WHERE settled = 0");
  if (Number(open?.["n"]) > 0) return false;
  return sim.laptops.every((laptop) => {
    if (!laptop.wanted) return true;
    const left = laptop.disk.get(
      "SELECT count(*) AS n FROM runs WHERE ended = 0 OR acked_seq < last_seq",
    );
    return Number(left?.["n"]) === 0 && untold(sim, laptop).length === 0;
  });
}

/** A run that a hub took in behind the backup, and no daemon that is left ever heard of. */
function isForgotten(sim: Simulation, runId: string | undefined): boolean {
  if (sim.restoredAt === undefined || runId === undefined || hubKnows(sim, runId)) return false;
  return !sim.laptops.some((laptop) => laptop.wanted && untold(sim, laptop).includes(runId));
}

/** Runs of a laptop's ledger that the hub does not know. */
function untold(sim: Simulation, { disk }: Laptop): string[] {
  return disk
    .all("SELECT DISTINCT run_id FROM runs")
    .map((row) => String(row["run_id"]))
    .filter((runId) => !hubKnows(sim, runId));
}

function hubKnows(sim: Simulation, runId: string): boolean {
  return sim.fixture.hubDisk.get("SELECT 1 FROM runs WHERE run_id = ?", runId) !== undefined;
}

/** Holds the hub's log of every run against what its agent said; gives the number of events. */
export function checkRuns(sim: Simulation, wishes: readonly Wished[]): number {
  const { hubDisk } = sim.fixture;
  let events = 0;
  for (const row of hubDisk.all("SELECT * FROM runs")) {
    const runId = String(row["run_id"]);
    const log = hubDisk
      .all("SELECT seq, link_seq, type, data FROM events WHERE run_id = ? ORDER BY seq", runId)
      .map((line) => ({
        seq: Number(line["seq"]),
        linkSeq: line["link_seq"] === null ? undefined : Number(line["link_seq"]),
        data: String(line["data"]),
        event: RunEvent.parse(JSON.parse(String(line["data"]))),
      }));
    events += log.length;
    checkLog(
      sim,
      {
        runId,
        status: String(row["status"]),
        lastSeq: Number(row["last_seq"]),
        agreed: Number(row["acked_seq"]),
        log,
      },
      wishes,
    );
  }
  return events;
}

interface Line {
  readonly seq: number;
  readonly linkSeq: number | undefined;
  readonly data: string;
  readonly event: RunEvent;
}

interface LoggedRun {
  readonly runId: string;
  readonly status: string;
  readonly lastSeq: number;
  /** The daemon's number up to which both sides agree. */
  readonly agreed: number;
  readonly log: readonly Line[];
}

function checkLog(sim: Simulation, run: LoggedRun, wishes: readonly Wished[]): void {
  const { runId, log } = run;
  const wrong = (what: string) => sim.violate(`${runId}: ${what}`);
  log.forEach(({ seq }, i) => {
    if (seq !== i + 1) wrong(`number ${seq} stands at place ${i + 1}`);
  });
  if (run.lastSeq !== log.length) wrong(`its row says ${run.lastSeq}, its log has ${log.length}`);
  const ends = log.filter(({ event }) => terminalStatus(event.type) !== undefined);
  if (ends.length !== 1 || ends[0] !== log.at(-1)) wrong(`${ends.length} ends`);
  const end = ends[0] && terminalStatus(ends[0].event.type);
  if (end !== run.status) wrong(`ended ${end}, its row says ${run.status}`);
  const gaps = log.filter(({ event }) => event.type === "log.gap");
  checkGaps(sim, run, gaps.length, wrong);
  checkChain(sim, run, gaps.length, wrong);
  checkPlaces(run, gaps.length > 0, wrong);
  const script = scriptOfRun(sim, runId);
  if (script === undefined) return wrong("nobody knows what it was about");
  checkWords(run, script, gaps.length > 0, wrong);
  const wished = wishes.find((one) => one.runId === runId);
  if (wished !== undefined) checkReader(sim, run, wished, wrong);
  checkEnd(sim, run, script, wished, wrong);
}

/** A gap where a restored hub has lost what it had acknowledged, and nowhere else. */
function checkGaps(
  sim: Simulation,
  { runId }: LoggedRun,
  gaps: number,
  wrong: (what: string) => void,
): void {
  // With a twin there are two journals, and the run may have begun anew on the other.
  if (sim.laptops.length > 1) return;
  const expected = sim.gapsExpected.has(runId);
  if (gaps > 0 && !expected && !sim.gapsPossible.has(runId))
    wrong("a gap, though nothing of it was lost");
  if (gaps === 0 && expected) wrong("silence about what was lost");
}

/** What both sides agreed on is what the hub holds. */
function checkChain(
  sim: Simulation,
  { runId, agreed, log }: LoggedRun,
  gaps: number,
  wrong: (what: string) => void,
): void {
  if (gaps > 0 || agreed === 0) return;
  let chain = CHAIN_START;
  for (const { linkSeq, data } of log) {
    if (linkSeq !== undefined && linkSeq <= agreed) chain = nextChain(chain, data);
  }
  // Given up by the hub: then it has acknowledged unread whatever another journal told of it.
  if (sim.laptops.length > 1 && log.at(-1)?.linkSeq === undefined) return;
  const there = sim.laptops
    .map(({ disk }) => disk.get("SELECT * FROM runs WHERE run_id = ?", runId))
    .filter((row) => Number(row?.["acked_seq"]) === agreed);
  if (there.length > 0 && !there.some((row) => row?.["acked_chain"] === chain)) {
    wrong(`another chain than the daemon's at ${agreed}`);
  }
}

/** A reader has got every line once, in order, as it stands in the store. */
function checkReader(
  sim: Simulation,
  { log }: LoggedRun,
  { reader }: Wished,
  wrong: (what: string) => void,
): void {
  if (reader === undefined || sim.mayRewrite) return;
  if (reader.lines.length !== log.length) {
    wrong(`its reader got ${reader.lines.length} of ${log.length}`);
  }
  const other = log.findIndex(({ data, linkSeq, seq }, i) => {
    return linkSeq === seq && data !== reader.lines[i];
  });
  if (other >= 0) wrong(`its reader got another line ${other + 1}`);
}

/** The daemon's numbers, contiguous beside the hub's own. */
function checkPlaces({ log }: LoggedRun, gaps: boolean, wrong: (what: string) => void): void {
  let last = 0;
  for (const { linkSeq } of log) {
    if (linkSeq === undefined) continue;
    if (linkSeq <= last || (!gaps && linkSeq !== last + 1)) wrong(`${linkSeq} after ${last}`);
    last = linkSeq;
  }
}

function checkWords(
  { status, agreed, log }: LoggedRun,
  script: Script,
  gaps: boolean,
  wrong: (what: string) => void,
): void {
  let next = 0;
  for (const { event, linkSeq = 0 } of log) {
    if (event.type !== "assistant.message.delta") continue;
    const { n, word } = event.payload;
    const fits = gaps ? Number(n) >= next : n === next;
    if (!fits) wrong(`said ${String(n)} where ${next} was due`);
    // Below a gap stands what the backup held, agreed or not: nobody can check it any more.
    const forged = word === "forged" && (linkSeq > agreed || gaps);
    if (!forged && word !== wordOf(script, Number(n))) wrong(`${String(n)} was "${String(word)}"`);
    next = Number(n) + 1;
  }
  if (status === "completed" && next !== script.events && !gaps) {
    wrong(`completed with ${next} of ${script.events}`);
  }
}

function checkEnd(
  sim: Simulation,
  { status, log }: LoggedRun,
  script: Script,
  wished: Wished | undefined,
  wrong: (what: string) => void,
): void {
  // Behind a restore, whoever finds a run without an end ends it.
  const asked = wished?.asked !== false || sim.restoredAt !== undefined;
  if (status === "cancelled" && !asked) wrong("cancelled by nobody");
  if (status === script.end) return;
  if (status === "cancelled" && asked) return;
  const { code } = log.at(-1)?.event.payload ?? {};
  if (status === "failed" && mayFail(sim, String(code))) return;
  wrong(`is ${status} (${String(code)}), its agent said ${script.end}`);
}

const HARNESS_CODES: ReadonlySet<string> = new Set(["harness_unreachable", "harness_failed"]);

/** What can end a run that did nothing wrong. */
function mayFail(sim: Simulation, code: string): boolean {
  const { sandboxesLost, laptops } = sim;
  if (laptops.length > 1) return true;
  // All that is left of a run whose end was acknowledged before the restore is that it failed.
  if (sim.restoredAt !== undefined && code === "events_truncated") return true;
  if (sandboxesLost > 0 && ["sandbox_lost", "harness_failed", "sandbox_not_found"].includes(code))
    return true;
  if (sim.weather.harnessTroubles > 0 && HARNESS_CODES.has(code)) return true;
  // Nobody can ask the Go program whether it was told to start just when the daemon died.
  const unsure = laptops.some(({ crashes, engine }) => crashes > 0 && engine.kind === "go");
  return unsure && code === "sandbox_lost";
}
