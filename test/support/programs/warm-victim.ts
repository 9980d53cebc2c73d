import { dockerProvider } from "../../../src/sandbox/drivers/docker/docker-provider.ts";
import { CACHE_DIR, quietLog } from "../../suites/sandbox-provider-suite.ts";

/** A daemon's provider that dies by kill -9 in the middle of a lease: `victim.ts INSTANCE ROOT POINT`. */
const [, , instanceId = "", runRoot = "", point = ""] = process.argv;
const signal = AbortSignal.timeout(60_000);
const dieAt = (here: string) => {
  if (here === point) process.kill(process.pid, "SIGKILL");
};
const fixed = { instanceId, runRoot, cacheDir: CACHE_DIR, log: quietLog };
const provider = dockerProvider({ ...fixed, warmSandboxes: 1 });
const context = { instanceId, onStage() {} };
await provider.ensure("first", {}, context, signal);
await provider.remove("first", signal);
while (provider.madeAhead?.().ready !== 1) await Bun.sleep(20);
await provider.ensure(
  "victim",
  {},
  {
    instanceId,
    onStage: (stage) => dieAt(`begin ${stage}`),
    beforeStart: () => Promise.resolve(dieAt("before the name")),
    onProgress: ({ stage }) => dieAt(`end ${stage}`),
  },
  signal,
);
throw new Error(`it never came to "${point}"`);
