import { Command, CommanderError } from "commander";
import { errorDocument } from "./commands/output.ts";
import { addCommands } from "./commands/table.ts";
import { VERSION } from "./commands/version.ts";
import { DecoError } from "./protocol/errors.ts";

/** Reads argv, runs one command, leaves with its exit code. See PROTOCOL.md, section "Commands". */
async function main(argv: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = new Command("deco")
    .description("Lends this laptop to a hub: agent runs in real sandboxes, no event lost.")
    .version(VERSION, "-V, --version")
    .helpCommand(true)
    .showHelpAfterError("(see `deco help`)")
    .enablePositionalOptions()
    .exitOverride();
  addCommands(program, (code) => {
    exitCode = code;
  });
  for (const command of everyCommand(program)) {
    command.exitOverride();
    command.configureHelp({ showGlobalOptions: false });
  }
  try {
    await program.parseAsync(argv, { from: "user" });
    return exitCode;
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    return usageExit(thrown, argv);
  }
}

/** 0 when help or the version was asked for, else 2 (and a problem document with --json). */
function usageExit(error: CommanderError, argv: readonly string[]): number {
  const asked = ["commander.helpDisplayed", "commander.version"].includes(error.code);
  // `deco help up` ends as "commander.help" with exit code 0; a bare `deco` with 1.
  if (asked || (error.code === "commander.help" && error.exitCode === 0)) return 0;
  const separator = argv.indexOf("--");
  const ours = separator < 0 ? argv : argv.slice(0, separator);
  if (ours.includes("--json")) {
    const detail = error.message.replace(/^error: /, "");
    process.stdout.write(`${JSON.stringify(errorDocument(new DecoError("usage", detail)))}\n`);
  }
  return 2;
}

function everyCommand(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...everyCommand(child)]);
}

// `deco runs ls | head` closes our stdout: that is an end, not a crash.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : 1);
});

const code = await main(process.argv.slice(2));
// Pipes may be asynchronous: leave only when what was printed is out. Ended, not written to once
// more: Bun calls back for a later write while earlier ones still wait for a slow reader.
await new Promise<void>((resolve) => process.stdout.end(() => resolve()));
await new Promise<void>((resolve) => process.stderr.end(() => resolve()));
process.exit(code);
