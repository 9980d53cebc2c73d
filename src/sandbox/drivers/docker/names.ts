type Labels = Readonly<Record<string, string>>;

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
  /** Whose it was made for; that of a sandbox that was made ahead is in its record alone. */
  owner: "dev.deco-link.owner",
  /** Key of the thread's network that it is on, or that it is. */
  network: "dev.deco-link.thread-network",
  /** What its template and runtime say that it is good for, with commas between. */
  labels: "dev.deco-link.labels",
  /** What is no sandbox, or was none at first, says here what it is: `pause`, `warm`. */
  role: "dev.deco-link.role",
} as const;

/**
 * Those that a sandbox may lack. A container has its image's labels as well, and what `docker commit`
 * makes of a sandbox has all of ours: an empty one takes its image's place.
 */
export const NO_LABELS: Labels = Object.fromEntries(
  [LABELS.digest, LABELS.thread, LABELS.owner, LABELS.network, LABELS.labels, LABELS.role].map(
    (name) => [name, ""],
  ),
);

/** A container's labels as it was given them; see {@link NO_LABELS}. */
export const givenLabels = (labels: Labels): Labels =>
  Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ""));

/** Value of the role label: a sandbox that was made ahead. A lease renames it; labels stay. */
export const WARM_ROLE = "warm";

/** Whose sandbox it is: one that was made ahead has that in its name alone. */
export function handleOf(name: string, labels: Labels): string {
  const first = labels[LABELS.handle] ?? "";
  const prefix = `/${networkOf(labels[LABELS.instance] ?? "")}-`;
  const isWarm = labels[LABELS.role] === WARM_ROLE && name.startsWith(prefix);
  return isWarm ? name.slice(prefix.length) : first;
}

export const ownerLabel = (owner: string | undefined): Labels =>
  owner === undefined ? {} : { [LABELS.owner]: owner };

/** Whether it was made ahead and is nobody's yet. */
export const isSpare = (name: string, labels: Labels) =>
  labels[LABELS.role] === WARM_ROLE && handleOf(name, labels) === labels[LABELS.handle];

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
