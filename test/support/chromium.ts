import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Undefined where no browser is installed; `npm run engines` installs one on Debian and Ubuntu. */
export const chromiumPath = PATHS.find((path) => existsSync(path));

/** Headless and silent: no update, sync or other background traffic. */
export function launchChromium(): Promise<Browser> {
  if (chromiumPath === undefined) throw new Error("no chromium: run npm run engines");
  return chromium.launch({
    executablePath: chromiumPath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
