import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

const HARD_MS = 15_000;

/** A program that tells on stdout and stderr how it goes. Disposing ends it, hard after 15 s. */
export class TalkingChild implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly #watchers = new Set<() => void>();
  #said = "";

  constructor(program: string, args: readonly string[], env: Readonly<Record<string, string>>) {
    const PATH = process.env["PATH"] ?? "";
    this.child = spawn(program, args, { env: { PATH, ...env }, stdio: "pipe" });
    const hear = (text: string) => {
      this.#said += text;
      this.#look();
    };
    this.child.stdout?.setEncoding("utf8").on("data", hear);
    this.child.stderr?.setEncoding("utf8").on("data", hear);
    this.child.stdin?.on("error", () => undefined);
    this.child.on("exit", () => this.#look());
  }

  get said(): string {
    return this.#said;
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  write(line: string): void {
    this.child.stdin?.write(`${line}\n`);
  }

  /** Waits until what it said from `after` on matches; fails when it ends before. */
  until(pattern: RegExp, after = 0): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = pattern.exec(this.#said.slice(after));
        if (!found && !this.hasEnded) return;
        this.#watchers.delete(look);
        if (found) resolve(found);
        else reject(new Error(`it ended before ${pattern}:\n${this.#said}`));
      };
      this.#watchers.add(look);
      look();
    });
  }

  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.hasEnded) return;
    const ended = once(this.child, "exit");
    this.child.kill(signal);
    const hard = setTimeout(() => this.child.kill("SIGKILL"), HARD_MS);
    await ended;
    clearTimeout(hard);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  #look(): void {
    for (const watcher of this.#watchers) watcher();
  }
}
