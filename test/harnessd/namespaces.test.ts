import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { startHarnessd } from "./harnessd-process.ts";

// What a sandbox gives harnessd: a disk of its own that fills, process ids of its own.
const unshared = ["unshare", ...(process.getuid?.() === 0 ? [] : ["--map-root-user"]), "--mount"];
const canUnshare =
  spawnSync(unshared[0] ?? "", [...unshared.slice(1), "--pid", "--fork", "--mount-proc", "true"])
    .status === 0;

test.skipIf(!canUnshare)(
  "a full disk ends the run with storage_failed, and harnessd goes on when there is room again",
  async () => {
    await using harnessd = await startHarnessd({
      wrapper: (data) => [
        ...unshared,
        "sh",
        "-c",
        'mount -t tmpfs -o size=1m none "$0" && exec "$@"',
        data,
      ],
    });
    const full = await harnessd.createRun({ prompt: "yes | head -c 5000000" });
    const events = await harnessd.events(full);
    expect(events.at(-1)).toMatchObject({
      type: "run.failed",
      payload: { code: "storage_failed" },
    });
    expect(events.map((event) => event.id)).toEqual(events.map((_, seq) => `${full}:${seq}`));
    // The next run's log takes the place of the ended one's.
    const next = await harnessd.createRun({ prompt: "yes | head -c 300000; echo end" });
    expect((await harnessd.events(next)).at(-1)).toMatchObject({ type: "run.completed" });
    expect((await harnessd.call("GET", `/v1/runs/${full}`)).status).toBe(404);
  },
);

test.skipIf(!canUnshare)(
  "where process ids are the sandbox's own, a cancel ends even what hid from its run",
  async () => {
    await using harnessd = await startHarnessd({
      env: { HARNESS_SWEEP: "1" },
      wrapper: () => [
        ...unshared,
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        '"$@" & child=$!; trap "kill $child" TERM; wait; wait',
        "init",
      ],
    });
    const hide =
      "setsid env -i sh -c 'while :; do echo tick > tick; sleep 0.05; done' >/dev/null 2>&1 &";
    const first = await harnessd.createRun({ prompt: `${hide} echo hidden` });
    expect((await harnessd.events(first)).at(-1)?.type).toBe("run.completed");
    const second = await harnessd.createRun({ prompt: "echo up; sleep 60" });
    await harnessd.until(second, (event) => event.type === "tool.output.delta");
    await harnessd.call("POST", `/v1/runs/${second}/cancel`);
    const last = (await harnessd.events(second)).at(-1);
    expect(last).toMatchObject({ type: "run.cancelled", payload: { processesLeft: 0 } });
    const look = await harnessd.createRun({ prompt: "rm tick; sleep 0.2; test ! -e tick" });
    expect((await harnessd.events(look)).at(-1)?.type).toBe("run.completed");
    expect(existsSync(join(harnessd.workspace, "tick"))).toBe(false);
  },
);
