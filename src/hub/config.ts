import { z } from "zod";

/** What the hub takes from its environment; everything else comes as an option. */
export interface HubEnvironment {
  /** `DECO_ALLOW_LOCALHOST_LINKS=1`: links may name a tunnelUrl on this machine. */
  readonly allowLocalhostLinks: boolean;
}

const Environment = z.object({ DECO_ALLOW_LOCALHOST_LINKS: z.string().optional() });

/** Reads the environment once, at start. */
export function hubEnvironment(env: NodeJS.ProcessEnv = process.env): HubEnvironment {
  return { allowLocalhostLinks: Environment.parse(env).DECO_ALLOW_LOCALHOST_LINKS === "1" };
}
