import { setTimeout as sleep } from "node:timers/promises";
import { DecoError } from "../../protocol/errors.ts";
import type { DispatchRun } from "../../protocol/messages.ts";
import {
  type CreateHarnessRun,
  type HarnessClient,
  harnessClient,
} from "../../sandbox/harness-client.ts";
import type { ResolvedSpec } from "../../sandbox/sandbox-spec.ts";
import type { LiveRun } from "./live-run.ts";
import type { ExecutorParts } from "./parts.ts";
import { LegError, onLeg } from "./run-failure.ts";

/** Tries to learn what became of a request whose answer was lost (about 4 s). */
const ROUNDS = 5;
const ENDED = new Set(["completed", "failed", "cancelled"]);

/** Tells the sandbox's harnessd to start; from here on it has a name there. */
export async function startHarness(parts: ExecutorParts, live: LiveRun): Promise<void> {
  const { journal, modelProxy } = parts;
  const { dispatch, provider, handle, signal } = live;
  const { runId, attempt } = dispatch;
  await onLeg("harness", "harness_unreachable", async () => {
    const client = harnessClient(await provider.endpoint(handle, signal));
    const { token } = modelProxy.grant(runId);
    journal.setProgress(runId, attempt, { phase: "starting" });
    live.told = true;
    const harnessRunId = await create(parts, live, client, token);
    journal.setProgress(runId, attempt, { phase: "running", harnessRunId });
    live.harness = { client, runId: harnessRunId };
  });
}

/**
 * The harness run of an attempt that may or may not have been told to harnessd, when a daemon
 * ended just then. Ours is asked by the name that the attempt has there, and, as it starts nothing
 * twice by one name, told again. Of another program only a run that surely is this one is taken.
 *
 * @throws LegError sandbox_lost (daemon): starting it again could run it twice (LESSONS 17)
 */
export async function harnessRunOf(
  { journal, modelProxy }: ExecutorParts,
  { dispatch, spec, signal }: LiveRun,
  client: HarnessClient,
): Promise<string> {
  const { runId, attempt, prompt } = dispatch;
  const { byName, runs } = await client.findRuns(nameOf(dispatch), signal);
  const going = runs.filter((run) => run.prompt === prompt && !ENDED.has(run.status));
  let found = byName ? runs[0]?.id : going.length === 1 ? going[0]?.id : undefined;
  if (found === undefined && byName) {
    const { token } = modelProxy.grant(runId);
    found = (await client.createRun(harnessBody(dispatch, spec, token), signal)).runId;
  }
  if (found === undefined) {
    const detail = "the daemon ended just when it started the harness";
    throw new LegError("daemon", new DecoError("sandbox_lost", detail));
  }
  journal.setProgress(runId, attempt, { phase: "running", harnessRunId: found });
  return found;
}

/** A request whose answer is lost is asked again where that can't start the run twice. */
async function create(
  parts: ExecutorParts,
  { dispatch, spec, signal }: LiveRun,
  client: HarnessClient,
  token: string,
): Promise<string> {
  const body = harnessBody(dispatch, spec, token);
  let lost: DecoError | undefined;
  for (let round = 1; ; round++) {
    try {
      if (lost && !(await client.findRuns(nameOf(dispatch), signal)).byName) throw lost;
      return (await client.createRun(body, signal)).runId;
    } catch (thrown) {
      signal.throwIfAborted();
      const error = DecoError.from(thrown, "harness_unreachable");
      if (error === lost || error.code !== "harness_unreachable" || round >= ROUNDS) throw error;
      parts.log.info({ err: error, runId: dispatch.runId, round }, "no answer of harnessd; again");
      lost = error;
    }
    await sleep(250 * round, undefined, { signal });
  }
}

/** What an attempt is called at harnessd. */
function nameOf({ runId, attempt }: DispatchRun): string {
  return `${runId}.${attempt}`;
}

function harnessBody(
  dispatch: DispatchRun,
  { env }: ResolvedSpec,
  token: string,
): CreateHarnessRun {
  const { prompt, harness, options = {} } = dispatch;
  const { model, systemPrompt, maxSteps, timeoutSeconds } = options;
  return {
    prompt,
    harness,
    client_run_id: nameOf(dispatch),
    ...(model === undefined ? {} : { model }),
    ...(systemPrompt === undefined ? {} : { system_prompt: systemPrompt }),
    ...(maxSteps === undefined ? {} : { max_steps: maxSteps }),
    ...(timeoutSeconds === undefined ? {} : { timeout_seconds: timeoutSeconds }),
    ...(env === undefined ? {} : { env }),
    model_access: { token },
  };
}
