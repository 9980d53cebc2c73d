import { DecoError } from "../../protocol/errors.ts";
import type { SandboxSpec } from "../../protocol/messages.ts";
import type { ResolvedSpec, SpecFacts } from "../sandbox-spec.ts";
import { findTemplate } from "./read-templates.ts";
import { findRuntime } from "./runtimes.ts";
import type { ImageSource, Template } from "./template.ts";

/** Where the laptop's owner keeps what names stand for. */
export interface TemplatePlaces {
  /** Folder of `NAME.json`. */
  readonly templates: string;
  /** The map of runtimes. */
  readonly runtimes: string;
}

/**
 * Puts what a template and a runtime stand for into a spec. What the request says itself wins, field
 * by field; of `env` and `resources` member by member.
 *
 * @throws capability_missing for names that this laptop doesn't know, invalid_request for an image
 * and a runtime at once, or a variable that the template requires and nobody gives
 */
export function resolveSpec(spec: SandboxSpec, places: TemplatePlaces): ResolvedSpec {
  const { template: name, runtime: askedRuntime, ...own } = spec;
  if (own.image !== undefined && askedRuntime !== undefined) {
    throw new DecoError("invalid_request", "an image and a runtime were asked for at once", {
      fix: "Name the image, or the runtime.",
    });
  }
  if (name === undefined && askedRuntime === undefined) return own;
  const template = name === undefined ? undefined : findTemplate(places.templates, name);
  const image = imageOf({ image: own.image, runtime: askedRuntime, template }, places);
  const merged = mergedSpec(template, own);
  requireEnv(name, template, merged);
  const facts: SpecFacts = {
    ...(name === undefined ? {} : { template: name }),
    ...image.facts,
    ...templateFacts(template, image.replaced),
    labels: [...new Set([...image.labels, ...(template?.labels ?? [])])],
  };
  return { ...merged, ...(image.image === undefined ? {} : { image: image.image }), facts };
}

/** Every wire field that a template may have, below what the request says. */
function mergedSpec(template: Template | undefined, own: SandboxSpec): SandboxSpec {
  const { provider, tier, ports, egress, workspace, env, resources } = template ?? {};
  const below = { provider, tier, ports, egress, workspace };
  const given = Object.entries(below).filter(([, value]) => value !== undefined);
  return {
    ...Object.fromEntries(given),
    ...own,
    ...(env === undefined ? {} : { env: { ...env, ...own.env } }),
    ...(resources === undefined ? {} : { resources: { ...resources, ...own.resources } }),
  };
}

interface FoundImage {
  readonly image?: string;
  readonly facts: Pick<SpecFacts, "build" | "platform" | "runtime">;
  readonly labels: readonly string[];
  /** Whether the request put another image in the place of the template's. */
  readonly replaced: boolean;
}

function imageOf(
  asked: { image: string | undefined; runtime: string | undefined; template: Template | undefined },
  places: TemplatePlaces,
): FoundImage {
  const { image, runtime, template } = asked;
  if (image !== undefined) return { image, facts: {}, labels: [], replaced: true };
  if (runtime !== undefined) return { ...fromRuntime(runtime, places), replaced: true };
  const source = template?.source;
  if (source === undefined) return { facts: {}, labels: [], replaced: false };
  if ("runtime" in source) return { ...fromRuntime(source.runtime, places), replaced: false };
  return { ...fromSource(source), labels: [], replaced: false };
}

function fromRuntime(runtime: string, places: TemplatePlaces) {
  const { source, labels } = findRuntime(places.runtimes, runtime);
  const { facts, ...rest } = fromSource(source);
  return { ...rest, facts: { ...facts, runtime }, labels };
}

function fromSource(source: ImageSource) {
  const platform = source.platform === undefined ? {} : { platform: source.platform };
  if ("image" in source) return { image: source.image, facts: { ...platform, pull: true } };
  return { facts: { ...platform, build: source.build } };
}

/** What only templates know; of an image in the place of theirs nothing is known. */
function templateFacts(template: Template | undefined, replaced: boolean): SpecFacts {
  if (template === undefined) return {};
  const { harnesses, readyBudgetMs, files, requires } = template;
  return {
    ...(harnesses === undefined || replaced ? {} : { harnesses }),
    ...(readyBudgetMs === undefined ? {} : { readyBudgetMs }),
    ...(files === undefined ? {} : { files }),
    ...(requires === undefined
      ? {}
      : { requires: { env: requires.env ?? [], files: requires.files ?? [] } }),
  };
}

function requireEnv(name: string | undefined, template: Template | undefined, spec: SandboxSpec) {
  const missing = (template?.requires?.env ?? []).filter(
    (variable) => spec.env?.[variable] === undefined,
  );
  if (missing.length === 0) return;
  const what = missing.join(", ");
  throw new DecoError("invalid_request", `template "${name}" requires ${what} in sandbox.env`, {
    fix: `Give it: ${missing.map((one) => `--env ${one}`).join(" ")} of \`deco run\`, sandbox.env of a request, or env of the template on the laptop.`,
  });
}
