import type { Journal } from "../../../src/daemon/journal.ts";
import type { SimHub } from "../nodes/hub.ts";
import type { Disk } from "./disk.ts";

/** A bug put into the product from outside; the checks have to notice it. */
export interface Mutation {
  readonly name: string;
  readonly beforeHub?: (disk: Disk, starts: number) => void;
  readonly hub?: (hub: SimHub) => void;
  readonly beforeDaemon?: (disk: Disk, starts: number) => void;
  readonly journal?: (journal: Journal, disk: Disk) => Journal;
}
