import { type Config, loadConfig, type SettingName } from "../daemon/config.ts";

/**
 * The daemon's settings for a command: flags that were given, environment, config.json, defaults.
 * An absent flag must not hide the environment.
 *
 * @throws DecoError `usage` naming the flag, variable or file with the wrong value.
 */
export function settings(
  env: Readonly<Record<string, string | undefined>>,
  flags: { readonly [K in SettingName]?: unknown } = {},
): Config {
  const named = Object.entries(flags).filter(([, value]) => value !== undefined);
  return loadConfig({ env, flags: Object.fromEntries(named) });
}
