/** Labels of everything that we make in an engine. Never decide on a name alone (LESSONS 30). */
export const LABELS = {
  instance: "dev.deco-link.instance",
  handle: "dev.deco-link.handle",
  spec: "dev.deco-link.spec",
  created: "dev.deco-link.created",
  thread: "dev.deco-link.thread",
  rundir: "dev.deco-link.rundir",
  image: "dev.deco-link.image-tag",
  digest: "dev.deco-link.image-digest",
  tier: "dev.deco-link.tier",
  /** Key of the thread's network that it is on, or that it is. */
  network: "dev.deco-link.thread-network",
  /** What its template and runtime say that it is good for, with commas between. */
  labels: "dev.deco-link.labels",
  /** What is no sandbox says here what it is: `pause`. */
  role: "dev.deco-link.role",
} as const;

export interface Names {
  readonly container: string;
  readonly volume: string;
}

/** Names of one sandbox; the instance keeps two daemons of one machine apart. */
export function namesOf(instanceId: string, handle: string): Names {
  const prefix = networkOf(instanceId);
  return { container: `${prefix}-${handle}`, volume: `${prefix}-${handle}-workspace` };
}

/** Name of the one network of an instance. */
export function networkOf(instanceId: string): string {
  return `deco-${instanceId.replace(/[^a-zA-Z0-9]/g, "").slice(0, 12)}`;
}
