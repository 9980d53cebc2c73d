import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { chromiumPath, launchChromium } from "../support/chromium.ts";
import { isSkipped } from "../support/engines.ts";
import { type RunningDeco, startDeco } from "../support/run-deco.ts";

describe.skipIf(isSkipped("chromium", chromiumPath !== undefined))("the page of deco up", () => {
  let home: string;
  let up: RunningDeco;
  let browser: Browser;
  let page: Page;
  let signIn: string;

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), "deco-page-"));
    up = await startDeco(["up", "--port", "0", "--provider", "process"], { home });
    signIn = (await up.until(/http:\/\/127\.0\.0\.1:\d+\/sign-in\?code=\S+/))[0];
    browser = await launchChromium();
    page = await browser.newPage();
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    await up?.[Symbol.asyncDispose]();
    await rm(home, { recursive: true, force: true });
  });

  const until = (selector: string, wanted: string) =>
    page.locator(selector, { hasText: wanted }).first().waitFor({ timeout: 20_000 });

  test("is entered by the printed code, once", async () => {
    await page.goto(signIn);
    await until("#link-state", "online");
    expect(new URL(page.url()).pathname).toBe("/");
    const other = await browser.newContext();
    const second = await (await other.newPage()).goto(signIn);
    expect(second?.status()).toBe(401);
    await other.close();
  });

  test("a run typed into the prompt box streams out of the sandbox, and survives a reload", async () => {
    await page.locator("#prompt").fill("echo one; read x < /dev/null; echo from $(pwd)");
    await page.locator("#start").click();
    await until("#events", "from /workspace");
    await until("#run-status", "completed");
    const shown = await page.locator("#events").innerText();
    await page.reload();
    await until("#run-status", "completed");
    expect(await page.locator("#events").innerText()).toBe(shown);
  });

  test("the cancel button ends a run that would sleep on", async () => {
    await page.locator("#prompt").fill("echo asleep; sleep 600");
    await page.locator("#start").click();
    await until("#events", "asleep");
    await page.locator("#cancel").click();
    await until("#run-status", "cancelled");
  });
});
