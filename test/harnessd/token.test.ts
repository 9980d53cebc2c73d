import { expect, test } from "bun:test";
import { startHarnessd, TOKEN } from "./harnessd-process.ts";

const NEXT = "n".repeat(43);

async function ask(url: string, token: string): Promise<number> {
  const headers = { authorization: `Bearer ${token}` };
  return (await fetch(`${url}/v1/runs`, { headers })).status;
}

test("whoever has the token exchanges it: the new one counts, the old one no more", async () => {
  await using harnessd = await startHarnessd();
  const refused = await fetch(`${harnessd.url}/v1/token`, {
    method: "PUT",
    headers: { authorization: "Bearer wrong", "content-type": "application/json" },
    body: JSON.stringify({ token: NEXT }),
  });
  expect(refused.status).toBe(401);
  expect(await ask(harnessd.url, NEXT)).toBe(401);
  expect(await harnessd.call("PUT", "/v1/token", { token: "short" })).toMatchObject({
    status: 400,
    body: { error: { code: "invalid_request" } },
  });
  expect(await ask(harnessd.url, TOKEN)).toBe(200);
  expect((await harnessd.call("PUT", "/v1/token", { token: NEXT })).status).toBe(200);
  expect(await ask(harnessd.url, TOKEN)).toBe(401);
  expect(await ask(harnessd.url, NEXT)).toBe(200);
});

test("not once a run was made", async () => {
  await using harnessd = await startHarnessd();
  await harnessd.createRun({ prompt: "true" });
  expect(await harnessd.call("PUT", "/v1/token", { token: NEXT })).toMatchObject({
    status: 409,
    body: { error: { code: "run_conflict" } },
  });
  expect(await ask(harnessd.url, TOKEN)).toBe(200);
});
