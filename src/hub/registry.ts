import { createHash, randomUUID } from "node:crypto";
import { DecoError } from "../protocol/errors.ts";
import { toBase64Url } from "../protocol/keys.ts";
import {
  type Heartbeat,
  type HeartbeatAnswer,
  PROTOCOL,
  type Register,
  type Registered,
} from "../protocol/messages.ts";
import { checkProof } from "../protocol/proof.ts";
import { adopt, type HeldRun } from "./adopt.ts";
import type { HubKeys } from "./keys.ts";
import type { LinkRow } from "./store/links.ts";
import type { Store } from "./store/open-store.ts";
import { checkTunnelUrl } from "./tunnel-url.ts";

/** A link secret lives so long; the daemon registers again after it. */
const SECRET_TTL_MS = 30 * 24 * 3600_000;

export interface RegistryOptions {
  readonly store: Store;
  readonly keys: HubKeys;
  readonly now: () => number;
  readonly hubVersion: string;
  readonly heartbeatIntervalMs: number;
  readonly ttlMs: number;
  readonly allowLocalhostLinks: boolean;
  /** An epoch is the newest one now; ways and tunnels of older ones must go. */
  readonly onEpoch: (link: LinkRow) => void;
  readonly onEnded: (linkId: string, reason: "revoked" | "gone") => void;
  /** @param held - What the daemon still has of runs that this hub is done with. */
  readonly onHeartbeat: (link: LinkRow, held: readonly HeldRun[]) => void;
}

/** The links and their epochs: who they are, whether they are there. */
export class Registry {
  readonly #options: RegistryOptions;
  readonly #store: Store;
  readonly #keys: HubKeys;
  readonly #now: () => number;

  constructor(options: RegistryOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#keys = options.keys;
    this.#now = options.now;
  }

  /**
   * @param user - Of a valid user token; undefined when the proof stands alone.
   * @param audiences - The origins under which this request may have been dialled.
   * @throws DecoError bad_proof, unauthorized, revoked, identity_changed, localhost_links_disabled
   */
  async register(
    body: Register,
    user: string | undefined,
    audiences: readonly string[],
  ): Promise<Registered> {
    const { machineId, proof, publicKey } = body;
    // What must not be used twice is only kept for as long as it could be.
    this.#store.signIn.removeExpired(this.#now());
    await checkProof({
      proof,
      publicKey,
      audience: audiences,
      machineId,
      now: this.#now(),
      seenJti: (jti, expiresAt) =>
        !this.#store.signIn.useOnce("proof", `${publicKey.x}.${jti}`, expiresAt),
    });
    const tunnelUrl = checkTunnelUrl(body.tunnelUrl, this.#options.allowLocalhostLinks);
    const link = this.#store.transaction(() => {
      const owner = user ?? this.#ownerOf(machineId, publicKey.x);
      const known = this.#store.links.get(linkIdOf(owner, machineId));
      if (known !== undefined && !known.revoked && known.publicKey !== publicKey.x) throw changed();
      const row = this.#newEpoch({ body, owner, known, tunnelUrl });
      this.#store.links.put(row);
      return row;
    });
    this.#options.onEpoch(link);
    return this.#answer(link);
  }

  /** Whose link the proof alone brings back. */
  #ownerOf(machineId: string, publicKey: string): string {
    const known = this.#store.links.ofMachine(machineId);
    const own = known.filter((link) => link.publicKey === publicKey);
    const alive = own.find((link) => !link.revoked);
    if (alive !== undefined) return alive.user;
    if (own.length > 0) throw new DecoError("revoked", "this link was revoked");
    if (known.some((link) => !link.revoked)) throw changed();
    throw new DecoError("unauthorized", "the first registration needs a user token");
  }

  #newEpoch(o: {
    body: Register;
    owner: string;
    known: LinkRow | undefined;
    tunnelUrl: string | undefined;
  }): LinkRow {
    const { body, owner, known } = o;
    const { name, hostname, platform, arch, cliVersion, protocolVersion, features = [] } = body;
    return {
      linkId: linkIdOf(owner, body.machineId),
      user: owner,
      machineId: body.machineId,
      publicKey: body.publicKey.x,
      machine: { name, hostname, platform, arch, cliVersion, protocolVersion, features },
      capabilities: body.capabilities,
      tunnelUrl: o.tunnelUrl,
      epoch: Math.max((known?.epoch ?? 0) + 1, this.#now()),
      kid: this.#keys.masterKid,
      jti: randomUUID(),
      state: "online",
      ended: false,
      revoked: false,
      load: known?.load ?? { runs: 0 },
      otherRuns: 0,
      lastSeen: this.#now(),
      registeredAt: this.#now(),
    };
  }

  async #answer(link: LinkRow): Promise<Registered> {
    const { linkId, epoch, jti, kid, user } = link;
    const expiresAt = this.#now() + SECRET_TTL_MS;
    return {
      linkId,
      epoch,
      linkSecret: await this.#keys.linkSecret({ user, linkId, epoch, jti, expiresAt }),
      signingKey: toBase64Url(this.#keys.signingKey({ kid, jti, linkId, epoch })),
      heartbeatIntervalMs: this.#options.heartbeatIntervalMs,
      ttlMs: this.#options.ttlMs,
      now: new Date(this.#now()).toISOString(),
      hub: {
        version: this.#options.hubVersion,
        protocol: { min: PROTOCOL.min, max: PROTOCOL.max },
        features: [],
      },
    };
  }

  /**
   * Whose secret this is. The signature needs no look-up; the epoch is always held against the registry.
   *
   * @throws DecoError bad_secret, secret_expired, unknown_link, superseded, revoked
   */
  async authenticate(secret: string | undefined): Promise<LinkRow> {
    if (secret === undefined || secret === "")
      throw new DecoError("bad_secret", "X-Link-Secret is missing");
    const { linkId, epoch, jti } = await this.#keys.readLinkSecret(secret);
    const link = this.#store.links.get(linkId);
    if (link === undefined) throw new DecoError("unknown_link", "this hub does not know the link");
    if (link.revoked) throw new DecoError("revoked", "this link was revoked");
    if (epoch < link.epoch) throw superseded(link.epoch);
    // A higher epoch was given out by a life of this hub that its backup does not know.
    if (epoch > link.epoch || link.ended || jti !== link.jti) {
      throw new DecoError("unknown_link", "this epoch is not known here");
    }
    return link;
  }

  async heartbeat(secret: string | undefined, beat: Heartbeat): Promise<HeartbeatAnswer> {
    const link = await this.authenticate(secret);
    if (beat.epoch < link.epoch) throw superseded(link.epoch);
    if (beat.epoch > link.epoch)
      throw new DecoError("unknown_link", "this epoch is not known here");
    const stored = this.#store.transaction(() => {
      const adopted = adopt(this.#store, link, beat, this.#now());
      const { state, load, capabilities } = beat;
      const known = this.#store.links.beat(link.linkId, link.epoch, {
        state,
        load,
        otherRuns: adopted.otherRuns,
        capabilities,
        at: this.#now(),
      });
      return known ? adopted : undefined;
    });
    // A registration came between the look and the write.
    if (stored === undefined) throw superseded(link.epoch);
    this.#options.onHeartbeat(this.#store.links.get(link.linkId) ?? link, stored.held);
    return {
      now: new Date(this.#now()).toISOString(),
      epoch: link.epoch,
      revoked: false,
      cancel: this.#store.runs.cancels(link.linkId),
      ...(stored.settled === undefined ? {} : { settled: stored.settled }),
    };
  }

  /** Ends the secret's epoch. Never touches a newer one (LESSONS 5). */
  async leave(secret: string | undefined): Promise<void> {
    const link = await this.authenticate(secret).catch((error: unknown) => {
      if (error instanceof DecoError && error.code === "unknown_link") return undefined;
      throw error;
    });
    if (link === undefined) return;
    if (this.#store.links.end(link.linkId, link.epoch, this.#now()))
      this.#options.onEnded(link.linkId, "gone");
  }

  /** @throws DecoError link_not_found, also for another user's link. */
  revoke(user: string, linkId: string): void {
    const link = this.#store.links.get(linkId);
    if (link?.user !== user) throw new DecoError("link_not_found", "no such link");
    this.#store.links.revoke(linkId);
    this.#options.onEnded(linkId, "revoked");
  }
}

/** Fixed per (user, machineId): also a hub that lost its disk gives the same one. */
function linkIdOf(user: string, machineId: string): string {
  const hash = createHash("sha256")
    .update(JSON.stringify([user, machineId]))
    .digest("hex");
  return `link_${hash.slice(0, 24)}`;
}

function changed(): DecoError {
  return new DecoError("identity_changed", "another key holds this machine id");
}

function superseded(epoch: number): DecoError {
  return new DecoError("superseded", `a newer daemon took over with epoch ${epoch}`);
}
