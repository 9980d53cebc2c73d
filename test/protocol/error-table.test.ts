import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ErrorInfo } from "../../src/protocol/error-info.ts";
import { DecoError, ERRORS } from "../../src/protocol/errors.ts";

const root = new URL("../../", import.meta.url).pathname;
const path = join(root, "PROTOCOL.md");
const START = /<!-- errors:.*-->\n/;
const END = "<!-- /errors -->";

function table(): string {
  const rows = Object.entries<ErrorInfo>(ERRORS).map(
    ([code, { status, retryable, exit, title, fix }]) =>
      `| \`${code}\` | ${status} | ${retryable ? "yes" : ""} | ${exit ?? ""} | ${title} | ${fix} |`,
  );
  return [
    "| code | status | retry | exit | what happened | fix |",
    "|---|---|---|---|---|---|",
    ...rows,
  ]
    .map((row) => `${row}\n`)
    .join("");
}

describe("PROTOCOL.md", () => {
  test("has the table of codes as it is in the code", () => {
    const text = readFileSync(path, "utf8");
    const start = START.exec(text);
    const from = (start?.index ?? 0) + (start?.[0].length ?? 0);
    const to = text.indexOf(END);
    expect(from).toBeGreaterThan(0);
    if (process.env["UPDATE_PROTOCOL"] === "1") {
      writeFileSync(path, text.slice(0, from) + table() + text.slice(to));
      return;
    }
    expect(text.slice(from, to)).toBe(table());
  });

  test("has every section that code cites", () => {
    const text = readFileSync(path, "utf8");
    const headings = [...text.matchAll(/^## \d+\. (.+)$/gm)].map(([, name]) => name);
    const cited = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
      .filter((name) => /\.tsx?$/.test(name))
      .flatMap((name) => {
        const source = readFileSync(join(root, "src", name), "utf8");
        return [...source.matchAll(/PROTOCOL\.md, section "([^"]+)"/g)].map(
          ([, section]) => section,
        );
      });
    expect(cited.filter((section) => !headings.includes(section))).toEqual([]);
  });
});

describe("the table of codes", () => {
  test("has statuses of errors, and a title and a fix for each code", () => {
    for (const [code, info] of Object.entries<ErrorInfo>(ERRORS)) {
      expect(code).toMatch(/^[a-z][a-z_]+$/);
      expect(info.status).toBeGreaterThanOrEqual(400);
      expect(info.status).toBeLessThan(600);
      expect(info.title).not.toMatch(/[.|\n]$/);
      expect(info.fix).toEndWith(".");
      expect(`${info.title}${info.fix}`).not.toContain("|");
    }
  });

  test("survives the way to a peer and back, with what it carries", () => {
    for (const [code, { title, status }] of Object.entries<ErrorInfo>(ERRORS)) {
      const type = `urn:deco-link:error:${code}`;
      const problem = { type, title, status, code, detail: "why", fix: "Do.", now: "x" };
      const back: unknown = DecoError.fromProblem(problem).toProblem();
      expect(back).toEqual(problem);
    }
  });
});
