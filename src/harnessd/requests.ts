import { z } from "zod";

/** The agents and programs that this harnessd knows. */
export const HARNESSES = ["shell", "claude-code"] as const;
export type HarnessName = (typeof HARNESSES)[number];

const Text = z.string().refine((text) => !text.includes("\0"), "holds a NUL character");

/** What the public Go program takes and this one has no use for. */
const Ignored = z.unknown().optional();

/** `POST /v1/runs` */
export const RunRequest = z.strictObject({
  prompt: Text.min(1),
  harness: z.enum(HARNESSES).default("shell"),
  model: Text.max(256).optional(),
  system_prompt: Text.max(1024 * 1024).optional(),
  max_steps: z.int().min(0).max(10_000).optional(),
  // A run that wants to be asked must not run unattended: no harness of this version asks.
  permissions: z.looseObject({ approval: z.literal("none").optional() }).optional(),
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), Text.max(100_000)).optional(),
  model_access: z.strictObject({ token: Text.min(1).max(4096) }).optional(),
  timeout_seconds: z
    .number()
    .positive()
    .max(7 * 86_400)
    .optional(),
  // The caller's own name of the run: the same one again answers the same run.
  client_run_id: Text.min(1).max(256).optional(),
  conversation_id: Ignored,
  agent_id: Ignored,
  tenant_id: Ignored,
  provider_name: Ignored,
  agent_intent: Ignored,
  task_context: Ignored,
  prompt_profile: Ignored,
  prompt_extensions: Ignored,
  reasoning_effort: Ignored,
  max_cost_usd: Ignored,
  allow_fallback: Ignored,
  allowed_tools: Ignored,
});
export type RunRequest = z.infer<typeof RunRequest>;

/** `POST /v1/runs/{id}/ack` */
export const RunAck = z.strictObject({ seq: z.int().min(0) });

/** `PUT /v1/token` */
export const NewToken = z.strictObject({ token: z.string().regex(/^[A-Za-z0-9_-]{32,256}$/) });
