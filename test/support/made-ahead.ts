const given = process.env["WARM_SANDBOXES"];

/** `WARM_SANDBOXES=n npx bun test …`: docker suites and daemons of tests keep so many sandboxes ready. */
export const madeAhead: { readonly warmSandboxes?: number } =
  given === undefined ? {} : { warmSandboxes: Number(given) };

/** The same for a daemon that is a process of its own. */
export const madeAheadEnv: Readonly<Record<string, string>> =
  given === undefined ? {} : { DECO_WARM_SANDBOXES: given };
