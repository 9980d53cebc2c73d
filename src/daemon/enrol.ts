import { DecoError } from "../protocol/errors.ts";
import { FEATURES } from "../protocol/features.ts";
import type { HubClock } from "../protocol/hub-clock.ts";
import {
  type Capability,
  PROTOCOL,
  type RegisterBody,
  type Registered,
} from "../protocol/messages.ts";
import { makeProof } from "../protocol/proof.ts";
import type { HubApi } from "./hub-api.ts";
import type { Identity } from "./identity.ts";

/** What the hub's lists show of this laptop. */
export interface LinkProfile {
  readonly name: string;
  readonly hostname: string;
  readonly platform: string;
  readonly arch: string;
  readonly cliVersion: string;
}

export interface EnrolOptions {
  readonly hub: HubApi;
  readonly identity: Identity;
  readonly profile: LinkProfile;
  readonly capabilities: readonly Capability[];
  /** Only with `--no-tunnel`: where the hub finds the signed app. */
  readonly tunnelUrl?: string;
  /** Needed for the first registration only; sent whenever there is one. */
  readonly userToken?: string;
  /** Set to the hub's time by a registration that worked. */
  readonly clock: HubClock;
  readonly signal: AbortSignal;
}

/**
 * Registers once: proof of the laptop's key, and the user token where there is one.
 *
 * A wrong laptop clock is corrected by the hub's own time and tried again once. A user token that
 * has expired is left out and the proof tried alone: it suffices for a link that the hub knows.
 *
 * @throws DecoError `not_enrolled` without a token the hub would take, `bad_proof`,
 *   `identity_changed`, `upgrade_required`, `revoked`, `localhost_links_disabled`, `hub_unreachable`
 * @see PROTOCOL.md, section "Registration"
 */
export async function enrol(options: EnrolOptions): Promise<Registered> {
  const { userToken, clock } = options;
  const registered = await withHubTime(options, userToken).catch(async (thrown: unknown) => {
    if (!isCode(thrown, "unauthorized")) throw thrown;
    if (userToken === undefined) throw notEnrolled(thrown);
    return withHubTime(options, undefined).catch(() => {
      throw thrown;
    });
  });
  const { min, max } = registered.hub.protocol;
  if (PROTOCOL.version < min || PROTOCOL.version > max) {
    throw new DecoError(
      "upgrade_required",
      `the hub speaks protocol ${min} to ${max}, this daemon ${PROTOCOL.version}`,
    );
  }
  clock.set(registered.now);
  return registered;
}

async function withHubTime(options: EnrolOptions, token: string | undefined): Promise<Registered> {
  try {
    return await once(options, token, options.clock.now());
  } catch (thrown) {
    const hubNow = thrown instanceof DecoError ? thrown.extensions["now"] : undefined;
    if (!isCode(thrown, "bad_proof") || typeof hubNow !== "string") throw thrown;
    const now = Date.parse(hubNow);
    if (Number.isNaN(now)) throw thrown;
    return once(options, token, now);
  }
}

async function once(
  { hub, identity, profile, capabilities, tunnelUrl, signal }: EnrolOptions,
  token: string | undefined,
  now: number,
): Promise<Registered> {
  const proof = await makeProof({
    privateKey: identity.privateJwk,
    audience: hub.origin,
    machineId: identity.machineId,
    now,
  });
  const body: RegisterBody = {
    ...profile,
    machineId: identity.machineId,
    protocolVersion: PROTOCOL.version,
    capabilities,
    features: FEATURES,
    publicKey: identity.publicJwk,
    proof,
    ...(tunnelUrl === undefined ? {} : { tunnelUrl }),
  };
  return hub.register(body, { signal, ...(token === undefined ? {} : { token }) });
}

function notEnrolled(cause: DecoError): DecoError {
  return new DecoError("not_enrolled", "the hub does not know this laptop yet", { cause });
}

function isCode(thrown: unknown, code: DecoError["code"]): thrown is DecoError {
  return thrown instanceof DecoError && thrown.code === code;
}
