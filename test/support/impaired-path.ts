import { fileURLToPath } from "node:url";
import { z } from "zod";
import { TalkingChild } from "./impaired-child.ts";
import { connectNetworks, NetNamespace } from "./net-namespace.ts";

const SHAPER = fileURLToPath(new URL("./programs/tun-shaper.ts", import.meta.url));
const PROBE = fileURLToPath(new URL("./programs/tun-shaper-probe.ts", import.meta.url));
const PROBE_PORT = "7";
const Probed = z.object({ rttMs: z.number(), bytesPerSecond: z.number() });
const Shaped = z.object({ packets: z.int(), heldBack: z.int(), lost: z.int() });

export type Probed = z.infer<typeof Probed>;

/**
 * A laptop's network (`near`) and a hub's (`far`) with a cable between them that can be made bad, and
 * a second way through a shaper that can be made slow. Addresses stand on neither way, so a change of
 * ways breaks no connection.
 */
export class ImpairedPath implements AsyncDisposable {
  readonly near: NetNamespace;
  readonly far: NetNamespace;
  readonly farAddress = "10.213.7.1";
  #nearAddress = "10.213.7.2";
  #way: "cable" | "shaper" = "cable";
  #shaper: TalkingChild | undefined;
  #probe: TalkingChild | undefined;

  private constructor(near: NetNamespace, far: NetNamespace) {
    this.near = near;
    this.far = far;
  }

  static async create(): Promise<ImpairedPath> {
    const path = new ImpairedPath(await NetNamespace.create(), await NetNamespace.create());
    await connectNetworks(path.near, path.far);
    await path.far.ip("addr", "add", path.farAddress, "dev", "lo");
    await path.#addNear();
    await path.#route();
    path.#probe = new TalkingChild(
      ...path.far.command(process.execPath, PROBE, "serve", path.farAddress, PROBE_PORT),
      {},
    );
    await path.#probe.until(/ready/);
    return path;
  }

  /** Bytes a second that leave each end. */
  async limitRate(bytesPerSecond: number): Promise<void> {
    const rate = ["rate", `${bytesPerSecond * 8}bit`, "burst", "32kb", "latency", "200ms"];
    for (const side of [this.near, this.far])
      await side.run("tc", "qdisc", "replace", "dev", "cable", "root", "tbf", ...rate);
  }

  /** Drops what comes in, at both ends: so many of a hundred packets, 100 for a black hole. */
  async lose(percent: number): Promise<void> {
    const drop = percent >= 100 ? "" : `numgen random mod 1000 < ${percent * 10} `;
    const rules = `add table inet bad; flush table inet bad;
      add chain inet bad in { type filter hook input priority 0; };
      add rule inet bad in iifname != "lo" counter;
      add rule inet bad in iifname != "lo" ${drop}counter drop`;
    for (const side of [this.near, this.far]) await side.run("nft", rules);
  }

  /** Packets that came, and those that were dropped, since the last {@link lose}. */
  async dropped(): Promise<{ came: number; dropped: number }> {
    const counts = await Promise.all(
      [this.near, this.far].map(async (side) => {
        const rules = await side.run("nft", "list", "table", "inet", "bad");
        return [...rules.matchAll(/packets (\d+)/g)].map(([, count]) => Number(count));
      }),
    );
    const sum = (index: number) => counts.reduce((all, side) => all + (side[index] ?? 0), 0);
    return { came: sum(0), dropped: sum(1) };
  }

  /** Packets go through the shaper from now on: so late each way, a share of them later still. */
  async shape(shape: { delayMs: number; heldBack?: number; heldBackMs?: number }) {
    this.#shaper ??= await this.#startShaper();
    const heard = this.#shaper.said.length;
    this.#shaper.write(JSON.stringify({ heldBack: 0, heldBackMs: 0, ...shape }));
    const [line] = await this.#shaper.until(/.*"shaped".*/, heard);
    this.#way = "shaper";
    await this.#route();
    return Shaped.parse(JSON.parse(line));
  }

  /** The cable, whole again. */
  async heal(): Promise<void> {
    this.#way = "cable";
    await this.#route();
    for (const side of [this.near, this.far]) {
      await side.run("nft", "add table inet bad; delete table inet bad");
      await side.run("tc", "qdisc", "del", "dev", "cable", "root").catch(() => "");
    }
  }

  /** The laptop changes its network: its address is gone, and a while later it has another one. */
  async moveNear(address: string, awayMs: number): Promise<void> {
    await this.near.ip("addr", "del", this.#nearAddress, "dev", "lo");
    await new Promise((resolve) => {
      setTimeout(resolve, awayMs);
    });
    this.#nearAddress = address;
    await this.#addNear();
    await this.#route();
  }

  /** Plain TCP over the path as it is now. */
  async probe(bytes: number): Promise<Probed> {
    const args = [PROBE, "ask", this.farAddress, PROBE_PORT, String(bytes)];
    return Probed.parse(JSON.parse(await this.near.run(process.execPath, ...args)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#probe?.end();
    await this.#shaper?.end();
    await this.near[Symbol.asyncDispose]();
    await this.far[Symbol.asyncDispose]();
  }

  #addNear(): Promise<string> {
    return this.near.ip("addr", "add", this.#nearAddress, "dev", "lo");
  }

  async #route(): Promise<void> {
    const near = [this.farAddress, "dev", this.#way, "src", this.#nearAddress];
    await this.near.ip("route", "replace", ...near);
    const far = [this.#nearAddress, "dev", this.#way, "src", this.farAddress];
    await this.far.ip("route", "replace", ...far);
  }

  async #startShaper(): Promise<TalkingChild> {
    const names = ["shaper", "shaper-far"];
    const made = new TalkingChild(...this.near.command(process.execPath, SHAPER, ...names), {});
    await made.until(/"ready"/);
    await this.near.ip("link", "set", "shaper-far", "netns", this.far.name, "name", "shaper");
    for (const side of [this.near, this.far]) await side.ip("link", "set", "shaper", "up");
    return made;
  }
}
