import type { Event } from "./scenario.ts";
import type { Backup, Laptop, Simulation } from "./simulation.ts";

/** Lets the scenario's events happen, each at its moment. */
export function beTroubled(sim: Simulation): void {
  const { world, scenario } = sim;
  const backups: Backup[] = [];
  for (const { atMs, event } of scenario.events) {
    world.schedule(world.outside, atMs, () => happen(sim, event, backups));
  }
  world.schedule(world.outside, scenario.clearsAtMs, () => sim.clear());
}

function happen(sim: Simulation, event: Event, backups: Backup[]): void {
  const { world, weather, fixture } = sim;
  const laptop = weather.chance.pick(sim.laptops);
  world.trace(`trouble: ${JSON.stringify(event)}`);
  switch (event.type) {
    case "backup":
      backups.push(fixture.hubDisk.backup());
      return;
    case "hub_crash":
      weather.count(event.restore ? "hub_restored" : "hub_crash");
      return crashHub(sim, event.downMs, event.restore ? backups[0] : undefined);
    case "hub_crash_at_commit":
      weather.count("hub_crash_at_commit");
      fixture.hubDisk.death = { left: event.after, side: event.side };
      return upAgain(sim, () => sim.startHub(), event.downMs);
    case "daemon_crash_at_commit":
      weather.count("daemon_crash_at_commit");
      laptop.disk.death = { left: event.after, side: event.side };
      laptop.crashes += 1;
      return upAgain(sim, () => sim.startDaemon(laptop), event.downMs);
    case "daemon_crash":
    case "daemon_restarted":
      weather.count(event.type);
      return stopDaemon(sim, laptop, event);
    case "laptop_asleep":
      weather.count("laptop_asleep");
      return sleep(sim, laptop, event.forMs);
    case "clock_set":
      weather.count("clock_set");
      if (laptop.program !== undefined) laptop.program.skewMs = event.toMs;
      return;
    case "twin_daemon":
      weather.count("twin_daemon");
      return sim.addTwin();
    case "tunnel_cut":
      weather.count("tunnel_cut");
      for (const tunnel of sim.tunnels) tunnel.cut();
      return;
    case "sandbox_gone":
      return loseSandbox(sim, laptop);
  }
}

/** The program will die at some write of its own: it is looked after from time to time. */
function upAgain(sim: Simulation, start: () => void, everyMs: number): void {
  const { world, scenario } = sim;
  world.schedule(world.outside, Math.max(everyMs, 50), () => {
    start();
    if (world.now - world.beganAt < scenario.clearsAtMs) upAgain(sim, start, everyMs);
  });
}

function crashHub(sim: Simulation, downMs: number, backup: Backup | undefined): void {
  const { world } = sim;
  if (sim.hubProgram !== undefined) world.kill(sim.hubProgram);
  if (backup !== undefined) sim.restore(backup);
  world.schedule(world.outside, downMs, () => sim.startHub());
}

function stopDaemon(
  sim: Simulation,
  laptop: Laptop,
  { type, downMs }: { type: "daemon_crash" | "daemon_restarted"; downMs: number },
): void {
  const { world } = sim;
  const { program, daemon } = laptop;
  laptop.crashes += 1;
  if (program !== undefined) {
    if (type === "daemon_crash" || daemon === undefined) world.kill(program);
    else
      world.schedule(program, 0, () => {
        void daemon.executor.close().then(() => world.kill(program));
      });
  }
  world.schedule(world.outside, downMs, () => {
    // A clean stop that hangs gets its second signal.
    if (program !== undefined) world.kill(program);
    sim.startDaemon(laptop);
  });
}

function sleep(sim: Simulation, laptop: Laptop, forMs: number): void {
  const { world, tunnels } = sim;
  const programs = [laptop.program, laptop.engine.program].filter((one) => one !== undefined);
  world.sleep(programs, forMs);
  sim.awakeAt = Math.max(sim.awakeAt, world.now + forMs);
  if (forMs < 5000) return;
  for (const tunnel of tunnels) if (tunnel.programs.client === laptop.program) tunnel.cut();
}

function loseSandbox(sim: Simulation, laptop: Laptop): void {
  const { engine } = laptop;
  const [handle] = [...engine.sandboxes.keys()];
  if (handle === undefined) return;
  sim.weather.count("sandbox_gone");
  sim.sandboxesLost += 1;
  engine.lose(handle);
}
