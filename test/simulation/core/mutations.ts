import type { Journal } from "../../../src/daemon/journal.ts";
import { DecoError } from "../../../src/protocol/errors.ts";
import type { SimHub } from "../nodes/hub.ts";
import { theWorld } from "./current.ts";
import type { Disk } from "./disk.ts";

/** A bug put into the product from outside; the checks have to notice it. */
export interface Mutation {
  readonly name: string;
  /** Before a hub starts, for the nth time. */
  readonly beforeHub?: (disk: Disk, starts: number) => void;
  readonly hub?: (hub: SimHub) => void;
  readonly beforeDaemon?: (disk: Disk, starts: number) => void;
  readonly journal?: (journal: Journal, disk: Disk) => Journal;
}

export const MUTATIONS: readonly Mutation[] = [
  { name: "dedupe off", hub: dedupeOff },
  { name: "ack before store", hub: ackBeforeStore },
  { name: "epoch compare dropped", hub: epochCompareDropped },
  {
    name: "cancel forgotten on restart",
    beforeHub: (disk, starts) => {
      if (starts > 1) disk.run("UPDATE runs SET cancel_requested = 0");
    },
    beforeDaemon: (disk, starts) => {
      if (starts < 2) return;
      disk.run("UPDATE runs SET cancel_requested = 0");
      disk.run("DELETE FROM cancels");
    },
  },
  { name: "chain ignored", journal: chainIgnored },
];

/** Whatever comes is appended, as if it had never come before. */
function dedupeOff({ context: { runLog, store } }: SimHub): void {
  const take = runLog.take.bind(runLog);
  runLog.take = (runId, attempt, frames) => {
    let last = store.runs.get(runId)?.linkSeq ?? 0;
    const renumbered = frames.map((frame) => {
      const event: { seq: number } = JSON.parse(frame.data);
      last = event.seq <= last ? last + 1 : event.seq;
      return { ...frame, id: String(last), data: JSON.stringify({ ...event, seq: last }) };
    });
    return take(runId, attempt, renumbered);
  };
}

/** The puller is told that lines are stored, and acknowledges them, before they are. */
function ackBeforeStore({ context: { runLog, store } }: SimHub): void {
  const take = runLog.take.bind(runLog);
  runLog.take = (runId, attempt, frames) => {
    const notYet = new Error("not yet");
    let row: ReturnType<typeof take>;
    try {
      store.transaction(() => {
        row = take(runId, attempt, frames);
        throw notYet;
      });
    } catch (error) {
      if (error !== notYet) throw error;
    }
    theWorld().timer(() => take(runId, attempt, frames), 200);
    return row;
  };
}

/** A secret counts by its signature alone, a heartbeat whatever epoch it names. */
function epochCompareDropped({ registry, context: { keys, store } }: SimHub): void {
  registry.authenticate = async (secret) => {
    const { linkId } = await keys.readLinkSecret(secret ?? "");
    const link = store.links.get(linkId);
    if (link === undefined) throw new DecoError("unknown_link", "this hub does not know the link");
    return link;
  };
  const heartbeat = registry.heartbeat.bind(registry);
  registry.heartbeat = async (secret, beat) => {
    const { epoch } = await registry.authenticate(secret);
    return heartbeat(secret, { ...beat, epoch });
  };
}

/** Every ack is taken for one with the right chain. */
function chainIgnored(journal: Journal, disk: Disk): Journal {
  return {
    ...journal,
    ack: (runId, { attempt, seq }) => {
      const row =
        disk.get("SELECT chain FROM events WHERE run_id = ? AND seq = ?", runId, seq) ??
        disk.get("SELECT acked_chain AS chain FROM runs WHERE run_id = ?", runId);
      journal.ack(runId, { attempt, seq, chain: String(row?.["chain"]) });
    },
  };
}
