/** Promises by name, in plain asserts: they run under bun:test and, bundled, under Node. */
export type Behaviours = Readonly<Record<string, () => Promise<void>>>;

/** Runs all in order and prints one line each; leaves with 1 when one failed. */
export async function runBehaviours(behaviours: Behaviours): Promise<void> {
  let failed = 0;
  for (const [name, behaviour] of Object.entries(behaviours)) {
    try {
      await Promise.race([behaviour(), expired(name)]);
      console.log(`ok ${name}`);
    } catch (error) {
      failed++;
      console.log(`FAILED ${name}: ${error instanceof Error ? error.stack : String(error)}`);
    }
  }
  process.exit(failed === 0 ? 0 : 1);
}

function expired(name: string): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(reject, 30_000, new Error(`took over 30 s: ${name}`)).unref();
  });
}
