import { describe, expect, test } from "bun:test";
import { lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { httpRequest } from "../../src/net/http-request.ts";
import { packTree } from "../../src/sandbox/workspace/pack-tree.ts";
import { putArchive } from "../../src/sandbox/workspace/put-archive.ts";
import { member, streamOf, tarOf } from "../support/tar-of.ts";
import { startHarnessd, type TestHarnessd, TOKEN } from "./harnessd-process.ts";

const signal = AbortSignal.timeout(60_000);
const endpoint = ({ socketPath }: TestHarnessd) => ({ socketPath, token: TOKEN });
const put = (harnessd: TestHarnessd, members: Uint8Array[], keep = false) =>
  putArchive(endpoint(harnessd), { body: streamOf(tarOf(members)), keep }, signal);

describe("harnessd unpacks", () => {
  test("files with their modes, times, sizes, links and folders", async () => {
    await using harnessd = await startHarnessd();
    const { workspace } = harnessd;
    writeFileSync(join(workspace, "old"), "stays");
    writeFileSync(join(workspace, "script"), "replaced");
    const totals = await put(harnessd, [
      member("closed", { kind: "directory", mode: 0o555 }),
      member("closed/in", { text: "inside", mode: 0o400 }),
      member("script", { text: "#!/bin/sh\n", mode: 0o4777 }),
      member("made/on/the/way", { text: "" }),
      member("link", { kind: "symlink", target: "closed/in" }),
      member("twin", { kind: "hardlink", target: "script" }),
    ]);
    expect(totals).toEqual({ files: 5, bytes: 16 });
    const look = (path: string) => lstatSync(join(workspace, path));
    expect(look("closed").mode & 0o7777).toBe(0o555);
    expect(look("closed/in").mode & 0o7777).toBe(0o400);
    expect(look("script").mode & 0o7777).toBe(0o777);
    expect(look("script").mtimeMs).toBe(1_700_000_000_000);
    expect(look("twin").ino).toBe(look("script").ino);
    expect(look("made/on/the/way").size).toBe(0);
    expect(readFileSync(join(workspace, "link"), "utf8")).toBe("inside");
    expect(readFileSync(join(workspace, "old"), "utf8")).toBe("stays");
  });

  test("what is there already stays where that is asked", async () => {
    await using harnessd = await startHarnessd();
    writeFileSync(join(harnessd.workspace, "a"), "mine");
    await put(harnessd, [member("a", { text: "yours" }), member("b", { text: "new" })], true);
    expect(readFileSync(join(harnessd.workspace, "a"), "utf8")).toBe("mine");
    expect(readFileSync(join(harnessd.workspace, "b"), "utf8")).toBe("new");
  });

  test("nothing through a link that stands in the workspace, which is replaced as a file", async () => {
    await using harnessd = await startHarnessd();
    const { workspace, folder } = harnessd;
    const outside = join(folder, "outside");
    mkdirSync(outside);
    writeFileSync(join(outside, "f"), "untouched");
    symlinkSync(outside, join(workspace, "way"));
    symlinkSync(join(outside, "f"), join(workspace, "f"));
    await expect(put(harnessd, [member("way/f", { text: "evil" })])).rejects.toMatchObject({
      code: "archive_invalid",
    });
    await put(harnessd, [member("f", { text: "a file" })]);
    expect(readFileSync(join(outside, "f"), "utf8")).toBe("untouched");
    expect(lstatSync(join(workspace, "f")).isFile()).toBe(true);
  });

  test("no file in a folder's place", async () => {
    await using harnessd = await startHarnessd();
    mkdirSync(join(harnessd.workspace, "d"));
    await expect(put(harnessd, [member("d", { text: "" })])).rejects.toMatchObject({
      code: "archive_invalid",
    });
  });

  test("a hostile tar is refused by the daemon, and by harnessd for whoever else sends one", async () => {
    await using harnessd = await startHarnessd();
    const tar = tarOf([member("ok", { text: "1" }), member("../evil", { text: "2" })]);
    const upload = putArchive(endpoint(harnessd), { body: streamOf(tar) }, signal);
    await expect(upload).rejects.toMatchObject({ code: "archive_invalid" });
    const answer = await httpRequest({
      socketPath: harnessd.socketPath,
      method: "PUT",
      path: "/v1/archive",
      headers: { authorization: `Bearer ${TOKEN}` },
      body: tar,
      signal,
    });
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { code: "archive_invalid" } });
    expect(await readdir(harnessd.folder)).not.toContain("evil");
    expect(await readdir(harnessd.workspace)).toEqual(["ok"]);
  });

  test("an upload that is cut off is an error, and harnessd goes on", async () => {
    await using harnessd = await startHarnessd();
    const whole = tarOf([member("big", { text: "x".repeat(300_000) })]);
    const body = streamOf(whole.subarray(0, 200_000));
    await expect(putArchive(endpoint(harnessd), { body }, signal)).rejects.toMatchObject({
      code: "archive_invalid",
    });
    const broken = new ReadableStream<Uint8Array>({
      pull: (c) => c.error(new Error("the uploader left")),
    });
    const left = putArchive(endpoint(harnessd), { body: broken }, signal);
    await expect(left).rejects.toMatchObject({ code: "workspace_failed" });
    expect(await put(harnessd, [member("a", { text: "1" })])).toEqual({ files: 1, bytes: 1 });
  });

  test("a workspace that can't be written is told with the reason", async () => {
    await using harnessd = await startHarnessd();
    await rm(harnessd.workspace, { recursive: true });
    writeFileSync(harnessd.workspace, "no folder");
    await expect(put(harnessd, [member("a", { text: "1" })])).rejects.toMatchObject({
      code: "workspace_failed",
      message: expect.stringContaining("ENOTDIR"),
    });
  });

  test("a program that takes no archives is named as such", async () => {
    const other = createServer((_request, response) => response.writeHead(404).end());
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const address = other.address();
    const port = typeof address === "object" ? address?.port : 0;
    const to = { url: `http://127.0.0.1:${port}`, token: TOKEN };
    const upload = putArchive(to, { body: streamOf(tarOf([])) }, signal);
    await expect(upload).rejects.toMatchObject({ code: "isolation_unavailable" });
    await new Promise((resolve) => other.close(resolve));
  });

  test("a receiver that does not read holds the sender back, and an abort ends both", async () => {
    const deaf = createServer(() => undefined);
    await new Promise<void>((resolve) => deaf.listen(0, "127.0.0.1", resolve));
    const address = deaf.address();
    const port = typeof address === "object" ? address?.port : 0;
    const sent = { bytes: 0, cancelled: false };
    const header = member("big", { size: 1024 * 1024 * 1024 - 512 });
    const body = new ReadableStream<Uint8Array>({
      start: (c) => c.enqueue(header),
      pull: (c) => {
        c.enqueue(new Uint8Array(256 * 1024));
        sent.bytes += 256 * 1024;
      },
      cancel: () => {
        sent.cancelled = true;
      },
    });
    const stop = new AbortController();
    const to = { url: `http://127.0.0.1:${port}`, token: TOKEN };
    const upload = putArchive(to, { body }, stop.signal).catch((thrown: unknown) => thrown);
    // Until it has stood still.
    for (let before = -1; before !== sent.bytes; await Bun.sleep(300)) before = sent.bytes;
    expect(sent.bytes).toBeGreaterThan(0);
    expect(sent.bytes).toBeLessThan(32 * 1024 * 1024);
    stop.abort(new Error("no longer wanted"));
    expect(await upload).toMatchObject({ message: "no longer wanted" });
    while (!sent.cancelled) await Bun.sleep(10);
    deaf.closeAllConnections();
    await new Promise((resolve) => deaf.close(resolve));
  }, 30_000);

  test("thousands of files, packed and unpacked without a copy, are the same", async () => {
    await using harnessd = await startHarnessd();
    const from = await mkdtemp(join(tmpdir(), "deco-pack-"));
    try {
      for (let d = 0; d < 30; d++) {
        mkdirSync(join(from, `d${d}`));
        for (let f = 0; f < 100; f++)
          writeFileSync(join(from, `d${d}`, `f${f}`), `${d}/${f}`.repeat(f), { mode: 0o640 });
      }
      symlinkSync("d1/f1", join(from, "link"));
      const body = packTree(from);
      const totals = await putArchive(endpoint(harnessd), { body }, signal);
      expect(totals.files).toBe(3001);
      const same = Bun.spawnSync(["diff", "-r", "--no-dereference", from, harnessd.workspace]);
      expect(same.stdout.toString()).toBe("");
      expect(lstatSync(join(harnessd.workspace, "d7/f9")).mode & 0o777).toBe(0o640);
    } finally {
      await rm(from, { recursive: true });
    }
  });
});
