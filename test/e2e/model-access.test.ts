import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { httpRequest } from "../../src/net/http-request.ts";
import type { RunEvent } from "../../src/protocol/run-events.ts";
import { finds, type Inside, linkSecrets, lookInside } from "../support/e2e-inside.ts";
import { docker, isEnd, type Lab, payloadOf, startLab } from "../support/e2e-lab.ts";
import { dockerAnswers, isSkipped } from "../support/engines.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import type { RunningDeco } from "../support/run-deco.ts";

const KEY = "sk-ant-the-laptops-own-key-0123456789";

const skipped = isSkipped("Docker engine", await dockerAnswers());

describe.skipIf(skipped)("a model without a key or a network inside", () => {
  let model: ModelServer;
  let lab: Lab;
  let link: RunningDeco;
  let inside: Inside;
  let token: string;
  let runDir: string;
  let statusWhileItRuns = 0;
  const events: RunEvent[] = [];
  const askWith = async (runToken: string) => {
    const answer = await httpRequest({
      socketPath: join(runDir, "model.sock"),
      path: "/v1/models",
      headers: { "x-api-key": runToken },
      signal: AbortSignal.timeout(5000),
    });
    await answer.text();
    return answer.status;
  };

  // One run in a sandbox without a network is watched while it talks to its model.
  beforeAll(async () => {
    model = await startModelServer();
    lab = await startLab();
    link = await lab.link({ env: { ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: KEY } });
    const sandbox = { provider: "docker", egress: "none", env: { SEEN: "the-runs-own-variable" } };
    const prompt = "slow 80 100";
    const runId = await lab.dispatch({ harness: "claude-code", prompt, sandbox });
    for await (const event of lab.events(runId)) {
      events.push(event);
      if (event.type === "sandbox.ready") runDir = await runDirOf(String(event.payload["id"]));
      if (event.type !== "assistant.message.delta" || inside !== undefined) continue;
      inside = await lookInside(String(payloadOf(events, "sandbox.ready")["id"]));
      token = /ANTHROPIC_API_KEY=([^\0]+)/.exec(inside.processes.toString())?.[1] ?? "";
      statusWhileItRuns = await askWith(token);
    }
  }, 240_000);
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await model?.[Symbol.asyncDispose]();
  });

  test('a sandbox with egress "none" reaches its model, and nothing else', async () => {
    expect(events.filter(isEnd).map(({ type }) => type)).toEqual(["run.completed"]);
    const id = String(payloadOf(events, "sandbox.ready")["id"]);
    const mode = await docker("inspect", "--format", "{{.HostConfig.NetworkMode}}", id);
    expect(mode.trim()).toBe("none");
    const interfaces = await docker("exec", id, "ls", "/sys/class/net");
    expect(interfaces.trim()).toBe("lo");
  });

  test("the service saw the laptop's key, and never the sandbox's token", () => {
    const turns = model.requests.filter(({ method }) => method === "POST");
    expect(turns.length).toBeGreaterThan(0);
    expect(new Set(turns.map(({ headers }) => headers["x-api-key"]))).toEqual(new Set([KEY]));
    expect(JSON.stringify(model.requests)).not.toContain(token);
  });

  test("the sandbox holds its run's token, and no key, link secret or token of ours (LESSONS 44)", async () => {
    expect(token.length).toBeGreaterThan(20);
    // The search finds what is there.
    const own = { token, variable: "the-runs-own-variable", prompt: "slow 80 100" };
    expect(finds(inside, own)).toEqual(
      expect.arrayContaining(["processes: token", "processes: variable", "files: prompt"]),
    );
    const secrets = { "the laptop's key": KEY, ...(await linkSecrets(lab)) };
    expect(finds(inside, secrets)).toEqual([]);
    expect(finds({ ...inside, processes: Buffer.of() }, { token })).toEqual([]);
    for (const needle of Object.values(secrets)) expect(link.stderr()).not.toContain(needle);
    expect(link.stdout() + link.stderr()).not.toContain(token);
  });

  test("the run's token is dead after its terminal event, while the sandbox lives on", async () => {
    expect(statusWhileItRuns).toBe(200);
    expect(await askWith(token)).toBe(401);
    expect(await askWith(KEY)).toBe(401);
  });

  test("nothing is left behind once the daemon drained", async () => {
    link.child.kill("SIGTERM");
    expect((await link.ended).code).toBe(143);
    expect(await lab.leftBehind()).toEqual([]);
  }, 60_000);
});

async function runDirOf(container: string): Promise<string> {
  const format = '{{range .Mounts}}{{if eq .Destination "/run/deco"}}{{.Source}}{{end}}{{end}}';
  return (await docker("inspect", "--format", format, container)).trim();
}
