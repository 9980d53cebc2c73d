import { destination, type Logger, pino, stdSerializers } from "pino";

/**
 * The program's log: JSON lines on stderr, written synchronously so that the last line before a
 * crash is there. What could hold a credential is taken out.
 */
export function createLog(
  env: Readonly<Record<string, string | undefined>>,
  fallbackLevel = "info",
): Logger {
  return pino(
    {
      level: env["DECO_LOG_LEVEL"] || fallbackLevel,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (level) => ({ level }) },
      serializers: { error: stdSerializers.err },
      redact: ["token", "linkSecret", "signingKey", "authorization", "headers.authorization"],
    },
    destination({ dest: 2, sync: true }),
  );
}
