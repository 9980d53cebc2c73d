import { describe, expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { addCommands } from "../../src/commands/table.ts";

const SRC = fileURLToPath(new URL("../../src", import.meta.url));

describe("what errors, hints and logs tell to run", () => {
  test("is a command that this version has", async () => {
    const program = new Command("deco").enablePositionalOptions();
    addCommands(program, () => undefined);
    const missing: string[] = [];
    for (const name of await readdir(SRC, { recursive: true })) {
      if (!/\.tsx?$/.test(name)) continue;
      const text = await readFile(join(SRC, name), "utf8");
      for (const [, words = ""] of text.matchAll(/`deco ((?:[a-z][a-z-]* ?)+)/g)) {
        if (!exists(program, words.trim().split(" "))) missing.push(`${name}: deco ${words}`);
      }
    }
    expect(missing).toEqual([]);
  });
});

/** Every word up to the first argument names a command; a command with children needs one, too. */
function exists(program: Command, words: readonly string[]): boolean {
  let command = program;
  for (const word of words) {
    const child = command.commands.find((one) => one.name() === word);
    if (child === undefined) return word === "help" || command.commands.length === 0;
    command = child;
  }
  return true;
}
