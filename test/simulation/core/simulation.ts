import type { Identity } from "../../../src/daemon/identity.ts";
import type { Journal } from "../../../src/daemon/journal.ts";
import type { Connection } from "../nodes/connection.ts";
import { HUB_URL, type SimDaemon, startSimDaemon } from "../nodes/daemon.ts";
import { Engine } from "../nodes/engine.ts";
import { hubHandler, type SimHub, startSimHub, takeTunnel } from "../nodes/hub.ts";
import { runOn } from "../nodes/machine.ts";
import { laptopNet, type Server } from "../nodes/net.ts";
import { CALM, Weather } from "../nodes/weather.ts";
import { type Chance, chance } from "./chance.ts";
import { enterWorld } from "./current.ts";
import { Disk } from "./disk.ts";
import type { Mutation } from "./mutations.ts";
import { drawScenario, type Scenario } from "./scenario.ts";
import { noted } from "./script-of-run.ts";
import { type Program, World } from "./world.ts";

export const USER = "sim@example.com";

export type Backup = ReturnType<Disk["backup"]>;

/** What is made once and wiped for each seed. */
export interface Fixture {
  readonly dataDir: string;
  readonly userToken: string;
  readonly identity: Identity;
  readonly hubDisk: Disk;
  readonly laptopDisks: readonly [Disk, Disk];
}

/** One laptop: its disk, its engine, and the daemon on it, if one runs. */
export interface Laptop {
  readonly name: string;
  readonly disk: Disk;
  readonly engine: Engine;
  program: Program | undefined;
  daemon: SimDaemon | undefined;
  /** Up for good: a daemon that was told to stop is not started again by itself. */
  wanted: boolean;
  starts: number;
  crashes: number;
}

/** One seed's world with everything in it. */
export class Simulation {
  readonly world: World;
  readonly weather: Weather;
  readonly scenario: Scenario;
  readonly chance: Chance;
  readonly fixture: Fixture;
  readonly mutation: Mutation | undefined;
  readonly tunnels = new Set<Connection>();
  readonly laptops: Laptop[] = [];
  readonly violations: string[] = [];
  readonly epochs: number[] = [];
  hub: SimHub | undefined;
  hubProgram: Program | undefined;
  hubStarts = 0;
  restoredAt: number | undefined;
  /** When every laptop is awake again. */
  awakeAt = 0;
  /** A superseded laptop will be started again by its user. */
  homecoming = false;
  sandboxesLost = 0;
  /** Runs of which a restored hub lost what it had acknowledged. */
  readonly gapsExpected = new Set<string>();
  /** The backup holds it, but not as agreed: what was forged of it can't be had again. */
  readonly gapsPossible = new Set<string>();
  readonly #hubListeners: ((hub: SimHub) => void)[] = [];

  constructor(
    seed: number,
    fixture: Fixture,
    o: { eventsPerSeed: number; mutation: Mutation | undefined; trace?: (line: string) => void },
  ) {
    this.chance = chance(seed);
    this.fixture = fixture;
    this.mutation = o.mutation;
    this.scenario = drawScenario(this.chance, o.eventsPerSeed);
    this.world = new World(this.chance, o.trace);
    this.world.realSignatures = seed % 16 === 0;
    enterWorld(this.world);
    this.weather = new Weather(this.chance.fork(), this.scenario.climate);
    fixture.hubDisk.wipe();
    for (const disk of fixture.laptopDisks) disk.wipe();
    this.#addLaptop("laptop", fixture.laptopDisks[0]);
  }

  violate(what: string): void {
    this.world.trace(`VIOLATION ${what}`);
    if (this.violations.length < 20) this.violations.push(what);
  }

  #addLaptop(name: string, disk: Disk): Laptop {
    const laptop: Laptop = {
      name,
      disk,
      engine: new Engine(this.world, name),
      program: undefined,
      daemon: undefined,
      wanted: true,
      starts: 0,
      crashes: 0,
    };
    this.laptops.push(laptop);
    return laptop;
  }

  /** A copy of the laptop's identity on another machine. */
  addTwin(): void {
    if (this.laptops.length > 1) return;
    const twin = this.#addLaptop("twin", this.fixture.laptopDisks[1]);
    this.startDaemon(twin);
  }

  startHub(): void {
    if (this.hubProgram?.alive === true) return;
    this.hubStarts += 1;
    const { world, fixture, mutation } = this;
    const program = world.program(`hub.${this.hubStarts}`);
    this.hubProgram = program;
    const net = laptopNet({
      world,
      weather: this.weather,
      serverAt: () => undefined,
      tunnels: this.tunnels,
    });
    runOn({ disk: fixture.hubDisk, net }, program);
    program.onDeath.push(() => {
      this.hub = undefined;
    });
    world.schedule(program, 0, () => {
      mutation?.beforeHub?.(fixture.hubDisk, this.hubStarts);
      const hub = startSimHub(fixture.dataDir);
      mutation?.hub?.(hub);
      this.hub = hub;
      for (const listener of this.#hubListeners) listener(hub);
    });
  }

  startDaemon(laptop: Laptop): void {
    if (laptop.program?.alive === true || !laptop.wanted) return;
    laptop.starts += 1;
    const { world } = this;
    const skew = laptop.program?.skewMs ?? 0;
    const program = world.program(`${laptop.name}.${laptop.starts}`, skew);
    laptop.program = program;
    program.asleepUntil = laptop.engine.program.asleepUntil;
    const serverAt = (origin: string) =>
      origin === HUB_URL ? this.#hubServer() : laptop.engine.serverAt(origin);
    const net = laptopNet({ world, weather: this.weather, serverAt, tunnels: this.tunnels });
    runOn({ disk: laptop.disk, net }, program);
    program.onDeath.push(() => {
      laptop.daemon = undefined;
    });
    world.schedule(program, 0, () => this.#bootDaemon(laptop, program));
  }

  #bootDaemon(laptop: Laptop, program: Program): void {
    const { world, fixture, mutation } = this;
    mutation?.beforeDaemon?.(laptop.disk, laptop.starts);
    let superseded = false;
    const daemon = startSimDaemon({
      identity: fixture.identity,
      provider: laptop.engine.provider,
      userToken: fixture.userToken,
      wrapJournal: (journal) => this.#watched(mutation?.journal?.(journal, laptop.disk) ?? journal),
      onRegister: () => {
        if (superseded) this.violate(`${program.name} was superseded and registers again`);
      },
      onRegistered: ({ epoch }) => world.trace(`registered, epoch ${epoch}`),
      onSuperseded: () => {
        superseded = true;
      },
      onState: (state) => world.trace(`link ${state}`),
    });
    laptop.daemon = daemon;
    void this.#whenEnded(laptop, program, daemon);
  }

  async #whenEnded(laptop: Laptop, program: Program, daemon: SimDaemon): Promise<void> {
    const { world } = this;
    const error = await daemon.ended;
    world.trace(`ends by itself: ${error?.code}`);
    if (error?.code !== "superseded")
      this.violate(`the daemon ended with ${error?.code}: ${error?.message}`);
    laptop.wanted = false;
    await daemon.executor.close();
    world.kill(program);
  }

  /** Looks at each ack that the journal takes. */
  #watched(journal: Journal): Journal {
    return {
      ...noted(this, journal),
      ack: (runId, ack) => {
        journal.ack(runId, ack);
        this.#ackTaken(runId, ack.seq);
      },
    };
  }

  #ackTaken(runId: string, seq: number): void {
    const { world, fixture, restoredAt } = this;
    // An ack of the hub's former life may still have been under way.
    if (restoredAt !== undefined && world.now - restoredAt < 20_000) return;
    const sql = "SELECT max(link_seq) AS stored FROM events WHERE run_id = ?";
    const row = fixture.hubDisk.get(sql, runId);
    const stored = Number(row?.["stored"] ?? 0);
    if (this.laptops.length > 1 && this.#isSettled(runId)) return;
    if (stored < seq) this.violate(`${runId}: acked up to ${seq}, the hub holds ${stored}`);
  }

  /** What another laptop still has of a run that has ended is acknowledged unread. */
  #isSettled(runId: string): boolean {
    const row = this.fixture.hubDisk.get("SELECT settled FROM runs WHERE run_id = ?", runId);
    return row?.["settled"] === 1;
  }

  /** Calls back in the hub's program: now, if it runs, and at each of its starts. */
  onHub(listener: (hub: SimHub) => void): void {
    this.#hubListeners.push(listener);
    const { hubProgram } = this;
    if (this.hub === undefined || hubProgram === undefined) return;
    this.world.schedule(hubProgram, 0, () => {
      if (this.hub !== undefined) listener(this.hub);
    });
  }

  /** Whether the hub's log may lose lines again that readers have seen. */
  get mayRewrite(): boolean {
    const { line_forged: forged = 0 } = this.weather.counts;
    // With a twin, a run may have begun anew in another journal.
    return this.restoredAt !== undefined || forged > 0 || this.laptops.length > 1;
  }

  /** Puts a backup in the place of the hub's store. */
  restore(backup: Backup): void {
    const { hubDisk, laptopDisks } = this.fixture;
    hubDisk.restore(backup);
    this.restoredAt = this.world.now;
    for (const disk of laptopDisks) {
      for (const { run_id: runId, acked_seq: acked } of disk.rows("runs")) {
        const id = String(runId);
        const row = hubDisk.get("SELECT link_seq, acked_seq FROM runs WHERE run_id = ?", id);
        if (Number(acked) > Number(row?.["link_seq"] ?? 0)) this.gapsExpected.add(id);
        if (Number(acked) > Number(row?.["acked_seq"] ?? 0)) this.gapsPossible.add(id);
      }
    }
  }

  #hubServer(): Server | undefined {
    const { hub, hubProgram } = this;
    if (hub === undefined || hubProgram?.alive !== true) return undefined;
    return {
      kind: "hub",
      program: hubProgram,
      handler: hubHandler(hub, (epoch) => this.#epochGiven(epoch)),
      onTunnel: (tunnel, headers) => takeTunnel(hub, tunnel, headers),
    };
  }

  #epochGiven(epoch: number): void {
    const last = this.epochs.at(-1) ?? 0;
    if (epoch <= last) this.violate(`epoch ${epoch} was given out after ${last}`);
    this.epochs.push(epoch);
  }

  /** The weather clears, and everything that was down comes up. */
  clear(): void {
    this.weather.climate = CALM;
    this.world.trace("the weather clears");
    this.fixture.hubDisk.death = undefined;
    this.startHub();
    for (const laptop of this.laptops) {
      laptop.disk.death = undefined;
      this.startDaemon(laptop);
    }
    this.homecoming = this.laptops.length > 1 && this.chance.hit(0.5);
    if (this.homecoming) this.world.schedule(this.world.outside, 40_000, () => this.#comeHome());
  }

  /** The laptop that had to give way is started again, with all that its journal still holds. */
  #comeHome(): void {
    this.homecoming = false;
    for (const laptop of this.laptops) {
      if (laptop.wanted) continue;
      laptop.wanted = true;
      this.startDaemon(laptop);
    }
  }

  /** Nothing of this world runs any more. */
  end(): void {
    for (const program of [this.hubProgram, ...this.laptops.map((one) => one.program)]) {
      if (program !== undefined) program.alive = false;
    }
  }
}
