import { type RunEvent, terminalStatus } from "../protocol/run-events.ts";
import { type Output, printable } from "./output.ts";

const SLOW_MS = 1000;

/** Prints one run event: NDJSON with --json, else what a person wants to read of it. */
export function printEvent(out: Output, event: RunEvent): void {
  if (out.json) return out.event(event, () => undefined);
  const { payload } = event;
  switch (event.type) {
    case "assistant.message.delta":
      return out.text(text(payload["content"]));
    case "tool.output.delta":
      return out.text(text(payload["content"]));
    case "tool.call.started":
      return out.event(event, () =>
        out.dim(`> ${field(payload, "tool")} ${short(payload["arguments"])}`),
      );
    case "tool.call.completed":
    case "assistant.message":
    case "assistant.thinking.delta":
    case "usage":
      return;
    case "sandbox.provisioning":
      return stage(out, payload);
    case "sandbox.ready":
      return out.note(
        out.dim(
          `  sandbox ${field(payload, "handle")} ready (${field(payload, "provider")}, ${field(payload, "readyMs")} ms)`,
        ),
      );
    default:
      return out.event(event, () =>
        terminalStatus(event.type) ? ending(out, event) : out.dim(printable(event.type)),
      );
  }
}

/** A stage begins, is so far (`progress`), or is over (`ms`). */
function stage(out: Output, payload: RunEvent["payload"]): void {
  const { ms, progress } = payload;
  const name = `  sandbox: ${field(payload, "stage")}`;
  if (typeof progress === "number") return out.progress(name, progress);
  // Most take no time that a person would want to read about.
  if (typeof ms === "number")
    return ms < SLOW_MS ? undefined : out.note(out.dim(`${name} ${ms} ms`));
  return out.note(out.dim(name));
}

function ending(out: Output, event: RunEvent): string {
  const { payload } = event;
  const status = terminalStatus(event.type);
  if (status === "completed") return out.green(`run completed${exit(payload)}`);
  if (status === "cancelled") return out.red("run cancelled");
  const where = `${field(payload, "leg")}: ${field(payload, "code")}`;
  const failed = out.red(`run failed (${where})`);
  return `${failed}: ${field(payload, "detail")}\nfix: ${field(payload, "fix")}`;
}

function exit(payload: RunEvent["payload"]): string {
  return typeof payload["exitCode"] === "number" ? `, exit code ${payload["exitCode"]}` : "";
}

function field(payload: RunEvent["payload"], name: string): string {
  const value = payload[name];
  return printable(
    typeof value === "string" ? value : value === undefined ? "?" : JSON.stringify(value),
  );
}

function short(value: unknown): string {
  const all = printable(typeof value === "string" ? value : (JSON.stringify(value) ?? ""));
  return all.length > 120 ? `${all.slice(0, 120)}…` : all;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
