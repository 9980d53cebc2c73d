import { DecoError } from "../../../../protocol/errors.ts";
import type { WantedSandbox } from "../../../sandbox-spec.ts";
import { refusedStatus } from "../engine/engine.ts";

/** What mends a container that came up without a harnessd that answers; it is removed by then. */
export function startAdvice({ image }: Pick<WantedSandbox, "image">): string {
  return image === undefined
    ? "Run `deco doctor`; a slow machine may need a template with a longer readyBudgetMs."
    : `Use an image that starts harnessd (images/README.md), such as one that is made FROM an image of \`deco image ls\`; \`docker run --rm ${image}\` shows what this one does.`;
}

/**
 * An engine's 400 is about what was asked for: limits that the machine has not, an image without a
 * program. No other try and no removal mends that.
 */
export function refusedOrder(thrown: unknown, wanted: Pick<WantedSandbox, "image">): unknown {
  if (refusedStatus(thrown) !== 400) return thrown;
  const { message, extensions } = DecoError.from(thrown);
  // The engine says it in words alone; only the advice depends on them.
  const isImage = /no command specified/i.test(message);
  return new DecoError("isolation_unavailable", message, {
    cause: thrown,
    extensions,
    fix: isImage
      ? startAdvice(wanted)
      : "Ask for what the engine offers: see `resources` in the request or its template, and `docker info`.",
  });
}
