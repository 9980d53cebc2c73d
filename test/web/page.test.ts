import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Browser, Page } from "playwright-core";
import { chromiumPath, launchChromium } from "../support/chromium.ts";
import { isSkipped } from "../support/engines.ts";
import { RUN_ID, type ScriptedHub, scriptedHub } from "./scripted-hub.ts";

const LINK = {
  status: "online",
  link: {
    linkId: "l1",
    name: "lovelace",
    capabilities: [
      { name: "docker", version: "28.1" },
      { name: "claude-code", available: false, reason: "no model key on the laptop" },
    ],
  },
};

describe.skipIf(isSkipped("chromium", chromiumPath !== undefined))(
  "the hub's page in a browser",
  () => {
    let browser: Browser;
    let hub: ScriptedHub;
    let page: Page;
    const problems: string[] = [];

    beforeAll(async () => {
      browser = await launchChromium();
      hub = await scriptedHub(LINK);
      page = await browser.newPage();
      page.on("pageerror", (error) => problems.push(error.message));
      page.on("console", (message) => {
        if (/Content Security Policy/.test(message.text())) problems.push(message.text());
      });
    });
    afterAll(async () => {
      await hub?.[Symbol.asyncDispose]();
      await browser?.close();
    });

    const text = (selector: string) => page.locator(selector).innerText();
    const until = (selector: string, wanted: string) =>
      page.locator(selector, { hasText: wanted }).first().waitFor({ timeout: 10_000 });

    test("shows the link with its state and what it offers", async () => {
      await page.goto(hub.url);
      await until("#link-state", "lovelace: online");
      expect(await text("#capabilities")).toContain("✓ docker 28.1");
      expect(await text("#capabilities")).toContain("✗ claude-code (no model key on the laptop)");
      expect(await page.locator("#connect").isHidden()).toBe(true);
    });

    test("harnesses that this link can't run are greyed, with the reason", async () => {
      const options = await page
        .locator("#harness option")
        .evaluateAll((all) => all.map((one) => [one.textContent, one.hasAttribute("disabled")]));
      expect(options).toEqual([
        ["shell", false],
        ["claude-code (no model key on the laptop)", true],
        ["codex (this link does not offer it)", true],
        ["decopilot (this link does not offer it)", true],
        ["acp (this link does not offer it)", true],
      ]);
    });

    test("the prompt box dispatches a run and shows it as it streams", async () => {
      await page.locator("#prompt").fill("uname -a");
      await page.locator("#start").click();
      await until("#run-id", RUN_ID);
      expect(new URL(page.url()).pathname).toBe(`/runs/${RUN_ID}`);
      expect(hub.posted).toEqual([
        { path: "/api/runs", body: { harness: "shell", prompt: "uname -a" } },
      ]);
      hub.add("run.started");
      hub.add("sandbox.ready", { handle: "h1", provider: "docker" });
      hub.add("tool.output.delta", { stream: "stdout", content: "Linux one\n" });
      await until("#events", "Linux one");
      hub.add("tool.output.delta", { stream: "stdout", content: "Linux two\n" });
      await until("#events", "Linux two");
      expect(await text("#run-status")).toBe("running");
      expect(await page.locator("#cancel").isVisible()).toBe(true);
    });

    test("what a sandbox writes is text, never markup", async () => {
      const attack = "<img src=x onerror=\"document.title='owned'\"><script>owned()</script>";
      hub.add("tool.output.delta", { stream: "stderr", content: attack });
      await until("#events", attack);
      expect(await page.locator("#events img, #events script").count()).toBe(0);
      expect(await page.title()).toBe("deco link");
    });

    test("a cut stream is resumed behind the last event, and nothing shows twice", async () => {
      const before = hub.resumed.length;
      hub.cut();
      hub.add("tool.output.delta", { stream: "stdout", content: "after the cut\n" });
      await until("#events", "after the cut");
      expect(hub.resumed.slice(before)).toEqual([5]);
      expect((await text("#events")).match(/Linux one/g)).toHaveLength(1);
    });

    test("a reload shows the same run from its start", async () => {
      await page.reload();
      await until("#events", "after the cut");
      expect((await text("#events")).match(/Linux one/g)).toHaveLength(1);
      expect(await text("#run-id")).toBe(RUN_ID);
    });

    test("cancel asks the hub, and the end takes the button away", async () => {
      const answered = page.waitForResponse((answer) => answer.url().endsWith("/cancel"));
      await page.locator("#cancel").click();
      await answered;
      hub.add("run.cancelled", { processesLeft: 0 });
      await until("#run-status", "cancelled");
      expect(hub.posted.at(-1)?.path).toBe(`/api/runs/${RUN_ID}/cancel`);
      expect(await page.locator("#cancel").isHidden()).toBe(true);
    });

    test("an unknown run says so and asks no more", async () => {
      const before = hub.resumed.length;
      await page.goto(`${hub.url}/runs/nope`);
      await until("#run-error", "no such run");
      expect(hub.resumed).toHaveLength(before);
    });

    test("without a link it shows the command that connects one, and no run can start", async () => {
      hub.link = { status: "offline", links: [] };
      await page.goto(hub.url);
      await until("#connect-command", `deco link --hub ${hub.url}`);
      expect(await page.locator("#start").isDisabled()).toBe(true);
    });

    test("the device page sends what the person decided", async () => {
      await page.goto(`${hub.url}/device?user_code=ABCD-EFGH`);
      await page.locator("#approve").click();
      await until("#device-result", "Approved");
      expect(hub.posted.at(-1)?.body).toEqual({ userCode: "ABCD-EFGH", approve: true });
      await page.locator("#deny").click();
      await until("#device-result", "Denied");
      expect(hub.posted.at(-1)?.body).toEqual({ userCode: "ABCD-EFGH", approve: false });
    });

    test("without a session there is the sign-in form and no data", async () => {
      hub.signedIn = false;
      const answer = await page.goto(hub.url);
      expect(answer?.status()).toBe(401);
      expect(await page.locator("form").getAttribute("action")).toBe("/sign-in");
      expect(await page.locator("#events").count()).toBe(0);
    });

    test("nothing broke the page's own policy, and no script failed", () => {
      expect(problems).toEqual([]);
    });
  },
);

test("the page's answers forbid scripts, frames and requests from elsewhere", async () => {
  await using hub = await scriptedHub(LINK);
  const answer = await fetch(hub.url);
  const policy = answer.headers.get("content-security-policy") ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toContain("unsafe");
  expect(await answer.text()).not.toMatch(/<script(?![^>]*\bsrc=)|\son\w+=|style=/);
});
