import { type Command, InvalidArgumentError, Option } from "commander";
import type { HarnessName, ProviderName } from "../protocol/messages.ts";
import { type Command as Run, runCommand } from "./command.ts";

// The lists of protocol/messages.ts again, so that `deco --version` does not load its schemas.
const PROVIDERS = ["docker", "virtualbox", "process"] satisfies ProviderName[];
const HARNESSES = ["shell", "claude-code", "codex", "decopilot", "acp"] satisfies HarnessName[];

type Finish = (exitCode: number) => void;

/** All commands, their flags and help. Each one's code is loaded only when it runs. */
export function addCommands(program: Command, finish: Finish): void {
  const run = async (options: { json?: boolean }, command: Run) =>
    finish(await runCommand({ json: options.json === true, command }));

  addUp(program, run);
  addHub(program, run);
  addLink(program, run);
  addRun(program, run);
  addRuns(program, run);
  addSandbox(program, run);
  addImage(program, run);
  addTemplate(program, run);
  addHealth(program, run);
}

type Runner = (options: { json?: boolean }, command: Run) => Promise<void>;

function addUp(program: Command, run: Runner): void {
  program
    .command("up")
    .description("hub and link daemon on this machine: the whole product, no account, no cloud")
    .addOption(port("port of the page and API, 0 for any free one (default 4000)"))
    .addOption(provider("--provider <name>", "sandbox provider (default: the best that works)"))
    .addOption(json())
    .option("--once", "dispatch one run through the real path, print its events, leave")
    .option(
      "--prompt <text>",
      "with --once: the prompt (default: a script that proves where it ran)",
    )
    .addOption(harnessOf("with --once: what does the work (default: shell)"))
    .option("--allow-unconfined", "go on where nothing here can confine a process")
    .action(async (options) => run(options, (await import("./up.ts")).up(options)));
}

function addHub(program: Command, run: Runner): void {
  const hub = program
    .command("hub")
    .description("a self-hosted hub")
    .option("--host <address>", "address to listen on (default 127.0.0.1)")
    .addOption(port("port to listen on, 0 for any free one (default 4000)"))
    .option("--data <dir>", "where the hub keeps its store and keys")
    .addOption(new Option("--store <kind>", "where runs and links are kept").choices(["embedded"]))
    .option("--public-url <url>", "the URL under which users reach it")
    .addOption(json())
    .action(async (options) => run(options, (await import("./hub.ts")).hub(options)));
  hub
    .command("token")
    .description("print a user token made with that hub's key (offline)")
    .requiredOption("--data <dir>", "the hub's data directory")
    .option("--user <name>", "whose token", "owner")
    .option("--ttl <time>", "how long it is good for, such as 12h or 30d", "30d")
    .option("--login", "print a single-use sign-in code for the page instead")
    .addOption(json())
    .action(async (options) => run(options, (await import("./hub-token.ts")).hubToken(options)));
}

function addLink(program: Command, run: Runner): void {
  program
    .command("login")
    .description("sign in to a hub by device flow")
    .addOption(hubUrl())
    .option("--insecure", "allow http to a hub that is not on this machine")
    .addOption(json())
    .action(async (options) => run(options, (await import("./login.ts")).login(options)));
  program
    .command("link")
    .description("the link daemon, in the foreground")
    .addOption(hubUrl())
    .addOption(port("with --no-tunnel: port of the signed control plane (default 5174)"))
    .option("--no-tunnel", "no tunnel: the hub reaches http://127.0.0.1:PORT itself")
    .addOption(new Option("--tunnel <kind>", "kind of tunnel").choices(["relay"]))
    .addOption(provider("--local-sandbox-provider <name>", "sandbox provider for runs"))
    .addOption(integer("--max-runs <n>", "runs at the same time", 1, 1000))
    .addOption(
      integer("--drain-seconds <s>", "seconds that runs get to end on a signal (30)", 0, 86_400),
    )
    .addOption(
      integer("--keep-sandboxes <n>", "idle sandboxes without a thread that stay (4)", 0, 256),
    )
    .addOption(integer("--idle-minutes <n>", "after which such a one goes (15)", 1, 525_600))
    .addOption(integer("--pause-pool <n>", "networks made ahead for sandboxes (2)", 0, 32))
    .addOption(integer("--warm-sandboxes <n>", "whole sandboxes made ahead (2)", 0, 8))
    .addOption(integer("--warm-memory-mib <n>", "memory that those may take (128)", 16, 65_536))
    .option("--name <name>", "this laptop's name at the hub (default: its host name)")
    .option("--allow-unconfined", "go on where nothing here can confine a process")
    .option("--insecure", "allow http to a hub that is not on this machine")
    .option("--docker-host <url>", "address of the Docker engine")
    .addOption(
      new Option("--log-level <level>", "how much to log on stderr").choices([
        "debug",
        "info",
        "warn",
        "error",
      ]),
    )
    .addOption(json())
    .action(async (options) => run(options, (await import("./link.ts")).link(options)));
}

function addRun(program: Command, run: Runner): void {
  program
    .command("run")
    .description("dispatch a run, stream its events, leave with its result")
    .argument("<prompt...>", "the prompt, after --; - reads it from stdin")
    .addOption(hubUrl())
    .addOption(harness())
    .addOption(provider("--provider <name>", "sandbox provider"))
    .option("--template <name>", "sandbox template (`deco template ls` on the laptop)")
    .option("--runtime <name>", "runtime of the laptop's own map, such as haskell")
    .addOption(integer("--tier <n>", "1 sandboxed, 2 standard, 3 privileged, 4 full host", 1, 4))
    .option("--link <id>", "which link (default: the one that can)")
    .option("--thread <name>", "thread that the run belongs to")
    .option("--branch <name>", "branch of that thread")
    .option("--network-name <name>", "its name on a private network of that thread's sandboxes")
    .addOption(new Option("--egress <kind>", "network inside").choices(["none", "open"]))
    .option("--model <name>", "model for the harness")
    .addOption(integer("--timeout <seconds>", "wall-clock limit of the run", 1, 604_800))
    .option("--sync <dir>", "send this folder first (in a git work tree without what git ignores)")
    .addOption(repeated("--env <name[=value]>", "for the run; without a value, this shell's"))
    .addOption(repeated("--fetch <glob>", "afterwards get these files of the workspace"))
    .option("--local", "straight to the daemon on this machine, without a hub")
    .option("--detach", "print the run's id and leave")
    .addOption(json())
    .passThroughOptions()
    .action(async (prompt: string[], options) =>
      run(options, (await import("./run.ts")).run(prompt, options)),
    );
}

function addRuns(program: Command, run: Runner): void {
  const runs = program.command("runs").description("runs at the hub");
  const add = (name: string, description: string) =>
    runs.command(name).description(description).addOption(hubUrl()).addOption(json());
  add("ls", "list runs").action(async (options) =>
    run(options, (await import("./runs.ts")).list(options)),
  );
  add("show <id>", "state, timings, target and receipt of one run").action(
    async (id: string, options) => run(options, (await import("./runs.ts")).show(id, options)),
  );
  add("logs <id>", "a run's events")
    .option("-f, --follow", "wait for more until it ends")
    .action(async (id: string, options) =>
      run(options, (await import("./runs.ts")).logs(id, options)),
    );
  add("cancel <id>", "cancel a run").action(async (id: string, options) =>
    run(options, (await import("./runs.ts")).cancel(id, options)),
  );
}

function addSandbox(program: Command, run: Runner): void {
  const sandbox = program.command("sandbox").description("sandboxes on this laptop");
  sandbox
    .command("ls")
    .description("list sandboxes")
    .addOption(json())
    .action(async (options) => run(options, (await import("./sandbox.ts")).list()));
  sandbox
    .command("rm <handle...>")
    .description("destroy sandboxes")
    .option("--force", "even while a run is active in it")
    .addOption(json())
    .action(async (handles: string[], options) =>
      run(options, (await import("./sandbox.ts")).remove(handles, options)),
    );
  addSandboxTools(sandbox, run);
}

function addSandboxTools(sandbox: Command, run: Runner): void {
  sandbox
    .command("inspect <handle>")
    .description("all that is known of a sandbox")
    .addOption(json())
    .action(async (handle: string, options) =>
      run(options, (await sandboxTools()).inspect(handle)),
    );
  sandbox
    .command("logs <handle>")
    .description("the last lines of what runs the harness in it")
    .addOption(integer("--lines <n>", "how many (200)", 1, 10_000))
    .addOption(json())
    .action(async (handle: string, options) =>
      run(options, (await sandboxTools()).logs(handle, options)),
    );
  sandbox
    .command("exec <handle> <command...>")
    .description("run a program in it, after --; leave with its exit code")
    .addOption(json())
    .action(async (handle: string, command: string[], options) =>
      run(options, (await sandboxTools()).exec(handle, command)),
    );
  sandbox
    .command("prune")
    .description("what nobody needs any more, and why; removes it with --execute")
    .option("--execute", "remove it")
    .option("--force", "with --execute: even if that is more than half of all")
    .addOption(json())
    .action(async (options) => run(options, (await sandboxTools()).prune(options)));
}

function addImage(program: Command, run: Runner): void {
  const image = program.command("image").description("sandbox images");
  image
    .command("build [name...]")
    .description("build sandbox images here, without a registry: harnessd, claude-code, codex, all")
    .addOption(harnessOf("the image of this harness (default: shell)"))
    .option("--all", "every image")
    .option("--base <image>", "on this image instead of from scratch, such as debian:bookworm-slim")
    .option("--platform <name>", "linux/amd64 or linux/arm64 (default: this machine's)")
    .option("--context <file>", "write the build context for a builder elsewhere instead")
    .addOption(json())
    .action(async (names: string[], options) =>
      run(options, (await import("./image.ts")).build(names, options)),
    );
  image
    .command("ls")
    .description("list our images: digest, platform, harnesses, whether in use")
    .addOption(json())
    .action(async (options) => run(options, (await import("./image.ts")).list()));
  image
    .command("rm [name...]")
    .description("remove images of ours that no container is made from")
    .option("--unused", "all of them")
    .option("--old", "those of them that a newer one of the same build and platform replaced")
    .addOption(json())
    .action(async (names: string[], options) =>
      run(options, (await import("./image.ts")).remove(names, options)),
    );
}

function addTemplate(program: Command, run: Runner): void {
  const template = program
    .command("template")
    .description("what runs may ask for by name on this laptop");
  template
    .command("ls")
    .description("list the built-in templates and those of the config folder")
    .addOption(json())
    .action(async (options) => run(options, (await import("./template.ts")).list()));
  template
    .command("show <name>")
    .description("what a template stands for")
    .addOption(json())
    .action(async (name: string, options) =>
      run(options, (await import("./template.ts")).show(name)),
    );
}

function addHealth(program: Command, run: Runner): void {
  program
    .command("status")
    .description("what the daemon on this machine does; answers within a second")
    .addOption(json())
    .action(async (options) => run(options, (await import("./status.ts")).status()));
  program
    .command("doctor")
    .description("check this machine, with a fix for each failed check")
    .addOption(hubUrl())
    .addOption(json())
    .action(async (options) => run(options, (await import("./doctor.ts")).doctor(options)));
  program
    .command("smoke")
    .description("check the link against its hub, with one small run")
    .addOption(hubUrl())
    .addOption(json())
    .action(async (options) => run(options, (await import("./smoke.ts")).smoke(options)));
}

const sandboxTools = () => import("./sandbox-tools.ts");
const json = () => new Option("--json", "print JSON on stdout");
const hubUrl = () => new Option("--hub <url>", "address of the hub (DECO_HUB)");
const provider = (flags: string, text: string) => new Option(flags, text).choices(PROVIDERS);
const harnessOf = (text: string) => new Option("--harness <name>", text).choices(HARNESSES);
const harness = () => harnessOf("what does the work").default("shell");
const port = (text: string) => integer("--port <n>", text, 0, 65_535);

const repeated = (flags: string, text: string) =>
  new Option(flags, `${text}; may be repeated`).argParser(
    (value: string, before: string[] | undefined) => [...(before ?? []), value],
  );

function integer(flags: string, text: string, min: number, max: number): Option {
  return new Option(flags, text).argParser((value) => {
    const number = Number(value);
    if (/^\d+$/.test(value) && number >= min && number <= max) return number;
    throw new InvalidArgumentError(`give a number from ${min} to ${max}.`);
  });
}
