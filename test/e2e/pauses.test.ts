import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dockerAnswers, isSkipped } from "../support/engines.ts";
import { leftovers, takeSnapshot } from "../support/leftovers.ts";
import { runDeco, startDeco } from "../support/run-deco.ts";

const skipped = isSkipped("Docker engine", await dockerAnswers());

test.skipIf(skipped)(
  "networks are made ahead while a daemon runs; what one that was killed left goes with the next",
  async () => {
    const home = await mkdtemp(join(tmpdir(), "deco-ahead-"));
    try {
      const before = await takeSnapshot(home);
      await using started = new AsyncDisposableStack();
      const start = async () => {
        const args = ["up", "--port", "0", "--provider", "docker"];
        const up = started.use(await startDeco(args, { home }));
        await up.until(/sign-in\?code=/);
        return up;
      };
      const made = async () => {
        for (;;) {
          const { containers } = await takeSnapshot(home);
          const pauses = [...containers].filter((line) => line.includes("-pause-")).toSorted();
          if (pauses.length === 2) return pauses;
          await Bun.sleep(50);
        }
      };
      const first = await start();
      // Builds the image where there is none.
      expect((await runDeco(["run", "--", "echo", "hello"], { home })).code).toBe(0);
      const ahead = await made();
      first.child.kill("SIGKILL");
      await first.ended;
      const second = await start();
      const isOld = (line: string) => ahead.includes(line);
      while ((await made()).some(isOld)) await Bun.sleep(50);
      second.child.kill("SIGTERM");
      expect((await second.ended).code).toBe(143);
      expect(await leftovers(home, before)).toEqual([]);
    } finally {
      await rm(home, { recursive: true, force: true });
    }
  },
  120_000,
);
