import { World } from "./world.ts";

/** The world that the replaced globals and modules work on; one at a time per process. */
let world = new World();

export function theWorld(): World {
  return world;
}

export function enterWorld(next: World): void {
  world = next;
}
