import { mkdir } from "node:fs/promises";
import { createServer } from "node:http";
import { dirname } from "node:path";

/** A socket on which something answers as an engine does, in three questions and no more. */
export interface FakeEngine extends AsyncDisposable {
  readonly path: string;
  readonly dockerHost: string;
}

interface Answers {
  readonly version?: Readonly<Record<string, unknown>>;
  readonly info?: Readonly<Record<string, unknown>>;
  /** Further answers, by path. */
  readonly paths?: Readonly<Record<string, unknown>>;
  /** Says that it has nothing, when it is asked for lists. */
  readonly empty?: boolean;
  /** Takes every question, and answers none. */
  readonly mute?: boolean;
}

const DOCKER_VERSION = {
  Version: "27.3.1",
  ApiVersion: "1.47",
  Arch: process.arch === "x64" ? "amd64" : process.arch,
  Components: [{ Name: "Engine" }],
};

const DOCKER_INFO = {
  OperatingSystem: "Debian GNU/Linux 12",
  OSType: "linux",
  DockerRootDir: "/var/lib/docker",
  CgroupVersion: "2",
  SecurityOptions: ["name=seccomp,profile=default"],
  MemoryLimit: true,
  CpuCfsQuota: true,
  PidsLimit: true,
};

const EMPTY = new Map<string, unknown>([
  ["/containers/json", []],
  ["/networks", []],
  ["/volumes", { Volumes: [] }],
]);

export async function fakeEngine(path: string, answers: Answers = {}): Promise<FakeEngine> {
  const bodies = new Map<string, unknown>([
    ["/_ping", "OK"],
    ["/version", { ...DOCKER_VERSION, ...answers.version }],
    ["/info", { ...DOCKER_INFO, ...answers.info }],
    ...Object.entries(answers.paths ?? {}),
  ]);
  const server = createServer((request, response) => {
    if (answers.mute === true) return;
    const [asked = ""] = (request.url ?? "").split("?");
    const body = bodies.get(asked) ?? (answers.empty === true ? EMPTY.get(asked) : undefined);
    response.writeHead(body === undefined ? 404 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(body ?? { message: `no ${request.url}` }));
  });
  await mkdir(dirname(path), { recursive: true });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    path,
    dockerHost: `unix://${path}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
