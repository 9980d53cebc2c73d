import { z } from "zod";
import { type Capability, LinkState, parseCapabilities } from "../../protocol/messages.ts";
import type { Db, SqlRow } from "../../storage/open-db.ts";

const MachineSchema = z.object({
  name: z.string(),
  hostname: z.string(),
  platform: z.string(),
  arch: z.string(),
  cliVersion: z.string(),
  protocolVersion: z.int(),
  /** What it knows beyond the first protocol 1. */
  features: z.array(z.string()).default([]),
});
/** What a laptop says of itself when it registers. */
export type Machine = Readonly<z.infer<typeof MachineSchema>>;

const LoadSchema = z.looseObject({ runs: z.int(), maxRuns: z.int().optional() });
export type LinkLoad = Readonly<z.infer<typeof LoadSchema>>;

/** One enrolled laptop, as the registry keeps it. It holds ids of keys (`kid`, `jti`), no secret. */
export interface LinkRow {
  readonly linkId: string;
  readonly user: string;
  readonly machineId: string;
  /** `x` of the laptop's Ed25519 key. */
  readonly publicKey: string;
  readonly machine: Machine;
  readonly capabilities: readonly Capability[];
  readonly tunnelUrl: string | undefined;
  readonly epoch: number;
  readonly kid: string;
  readonly jti: string;
  readonly state: LinkState;
  /** The daemon ended this epoch itself; its secret is dead. */
  readonly ended: boolean;
  readonly revoked: boolean;
  readonly load: LinkLoad;
  /** Active runs of that laptop that this hub did not dispatch. */
  readonly otherRuns: number;
  readonly lastSeen: number;
  readonly registeredAt: number;
}

export interface LinkStore {
  get(linkId: string): LinkRow | undefined;
  all(): LinkRow[];
  ofUser(user: string): LinkRow[];
  ofMachine(machineId: string): LinkRow[];
  /** Inserts or replaces the whole row; call inside the transaction that read it. */
  put(row: LinkRow): void;
  /** Writes a heartbeat if the epoch is still the newest one; false when it is not. */
  beat(linkId: string, epoch: number, beat: Beat): boolean;
  /** Ends an epoch if it is still the newest one. */
  end(linkId: string, epoch: number, at: number): boolean;
  revoke(linkId: string): void;
}

export interface Beat {
  readonly state: LinkState;
  readonly load: LinkLoad;
  readonly otherRuns: number;
  readonly capabilities: readonly Capability[] | undefined;
  readonly at: number;
}

export function linkStore(db: Db): LinkStore {
  const get = db.prepare("SELECT * FROM links WHERE link_id = ?");
  const all = db.prepare("SELECT * FROM links");
  const ofUser = db.prepare("SELECT * FROM links WHERE user = ? ORDER BY last_seen DESC");
  const ofMachine = db.prepare(
    "SELECT * FROM links WHERE machine_id = ? ORDER BY registered_at DESC",
  );
  const put =
    db.prepare(`INSERT OR REPLACE INTO links (link_id, user, machine_id, public_key, machine,
    capabilities, tunnel_url, epoch, kid, jti, state, ended, revoked, load, other_runs, last_seen,
    registered_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`);
  const beat = db.prepare(`UPDATE links SET state = ?, load = ?, other_runs = ?, last_seen = ?,
    capabilities = coalesce(?, capabilities) WHERE link_id = ? AND epoch = ? AND ended = 0 AND revoked = 0`);
  const end = db.prepare(
    "UPDATE links SET ended = 1, last_seen = ? WHERE link_id = ? AND epoch = ?",
  );
  const revoke = db.prepare("UPDATE links SET revoked = 1, ended = 1 WHERE link_id = ?");
  return {
    get: (linkId) => optional(get.get(linkId)),
    all: () => all.all().map(toLink),
    ofUser: (user) => ofUser.all(user).map(toLink),
    ofMachine: (machineId) => ofMachine.all(machineId).map(toLink),
    put: (r) => {
      put.run(
        r.linkId,
        r.user,
        r.machineId,
        r.publicKey,
        JSON.stringify(r.machine),
        JSON.stringify(r.capabilities),
        r.tunnelUrl ?? null,
        r.epoch,
        r.kid,
        r.jti,
        r.state,
        Number(r.ended),
        Number(r.revoked),
        JSON.stringify(r.load),
        r.otherRuns,
        r.lastSeen,
        r.registeredAt,
      );
    },
    beat: (linkId, epoch, b) => {
      const capabilities = b.capabilities === undefined ? null : JSON.stringify(b.capabilities);
      return (
        beat.run(b.state, JSON.stringify(b.load), b.otherRuns, b.at, capabilities, linkId, epoch)
          .changes === 1
      );
    },
    end: (linkId, epoch, at) => end.run(at, linkId, epoch).changes === 1,
    revoke: (linkId) => void revoke.run(linkId),
  };
}

function optional(row: SqlRow | undefined): LinkRow | undefined {
  return row === undefined ? undefined : toLink(row);
}

function toLink(row: SqlRow): LinkRow {
  return {
    linkId: String(row["link_id"]),
    user: String(row["user"]),
    machineId: String(row["machine_id"]),
    publicKey: String(row["public_key"]),
    machine: MachineSchema.parse(JSON.parse(String(row["machine"]))),
    capabilities: parseCapabilities(JSON.parse(String(row["capabilities"]))),
    tunnelUrl: row["tunnel_url"] === null ? undefined : String(row["tunnel_url"]),
    epoch: Number(row["epoch"]),
    kid: String(row["kid"]),
    jti: String(row["jti"]),
    state: LinkState.parse(row["state"]),
    ended: row["ended"] === 1,
    revoked: row["revoked"] === 1,
    load: LoadSchema.parse(JSON.parse(String(row["load"]))),
    otherRuns: Number(row["other_runs"]),
    lastSeen: Number(row["last_seen"]),
    registeredAt: Number(row["registered_at"]),
  };
}
