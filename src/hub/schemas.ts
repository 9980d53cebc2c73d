import { z } from "zod";
import { Capability } from "../protocol/messages.ts";
import { RunStatus } from "../protocol/run-events.ts";

/** What the hub answers, for the OpenAPI document; readers ignore members that they don't know. */
export const LinkViewSchema = z.looseObject({
  linkId: z.string(),
  status: z.enum(["online", "suspended", "offline"]),
  state: z.enum(["online", "suspended", "draining"]),
  reachable: z.boolean(),
  via: z.enum(["relay", "url"]),
  machineId: z.string(),
  name: z.string(),
  machine: z.looseObject({
    name: z.string(),
    hostname: z.string(),
    platform: z.string(),
    arch: z.string(),
    cliVersion: z.string(),
    protocolVersion: z.int(),
    features: z.array(z.string()),
  }),
  epoch: z.int(),
  capabilities: z.array(Capability),
  load: z.looseObject({ runs: z.int(), maxRuns: z.int().optional() }),
  lastSeen: z.string(),
  registeredAt: z.string(),
});

export const DispatchedSchema = z.object({
  runId: z.string(),
  linkId: z.string(),
  status: RunStatus,
});

export const RunViewSchema = z.looseObject({
  runId: z.string(),
  linkId: z.string(),
  status: RunStatus,
  attempt: z.int(),
  harness: z.string().nullable(),
  prompt: z.string().nullable(),
  thread: z.string().nullable(),
  branch: z.string().nullable(),
  cancelRequested: z.boolean(),
  lastSeq: z.int(),
  createdAt: z.string(),
  startedAt: z.string().nullable(),
  endedAt: z.string().nullable(),
  /** Milliseconds per stage. */
  timings: z.record(z.string(), z.number()),
  target: z.record(z.string(), z.unknown()).nullable(),
  receipt: z.record(z.string(), z.unknown()).nullable(),
  result: z.record(z.string(), z.unknown()).nullable(),
});

export const ThreadViewSchema = z.looseObject({
  threadId: z.string(),
  pins: z.object({
    sandboxProviderKind: z.string().nullable(),
    harnessId: z.string(),
    branch: z.string().nullable(),
  }),
  sandboxMap: z.record(
    z.string(),
    z.record(z.string(), z.record(z.string(), z.looseObject({ handle: z.string() }))),
  ),
  firstRunId: z.string(),
  createdAt: z.string(),
});

export const CatalogSchema = z.object({
  capabilities: z.array(
    z.object({
      name: z.string(),
      available: z.boolean(),
      links: z.array(
        z.looseObject({
          linkId: z.string(),
          name: z.string(),
          status: z.string(),
          available: z.boolean(),
        }),
      ),
    }),
  ),
});

export const ProblemSchema = z.looseObject({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: z.string(),
  detail: z.string(),
  fix: z.string(),
});
