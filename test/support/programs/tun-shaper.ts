import { dlopen, ptr } from "bun:ffi";
import { openSync, read, writeSync } from "node:fs";
import { createInterface } from "node:readline";

/**
 * A line of IP packets between two TUN devices that delays them, and now and then holds one back so
 * that later ones overtake it: `bun tun-shaper.ts NAME NAME`. The devices are made where it is
 * started; they may be moved into other networks. Commands and answers are lines of JSON.
 */
interface Shape {
  /** Each way. */
  delayMs: number;
  /** Share of the packets that are held back, 0 to 1, and for how long. */
  heldBack: number;
  heldBackMs: number;
}

const TUNSETIFF = 0x400454ca;
const IFF_TUN_WITHOUT_HEADER = 0x1001;
const LARGEST_PACKET = 65_536;
/** More than this waits in no line: what comes then is lost, as in any router. */
const MOST_WAITING = 4096;

const { symbols } = dlopen("libc.so.6", {
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
});
const shape: Shape = { delayMs: 0, heldBack: 0, heldBackMs: 0 };
const counts = { packets: 0, heldBack: 0, lost: 0 };
let waiting = 0;

const [one = 0, other = 0] = process.argv.slice(2).map(openTun);
relay(one, other);
relay(other, one);
process.stdout.write(`${JSON.stringify({ type: "ready" })}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  Object.assign(shape, JSON.parse(line));
  process.stdout.write(`${JSON.stringify({ type: "shaped", ...counts })}\n`);
}
process.exit(0);

function openTun(name: string): number {
  const fd = openSync("/dev/net/tun", "r+");
  const request = Buffer.alloc(40);
  request.write(name);
  request.writeUInt16LE(IFF_TUN_WITHOUT_HEADER, 16);
  if (symbols.ioctl(fd, TUNSETIFF, ptr(request)) !== 0) throw new Error(`no TUN device ${name}`);
  return fd;
}

function relay(from: number, to: number): void {
  const buffer = Buffer.alloc(LARGEST_PACKET);
  const next = () =>
    read(from, buffer, 0, buffer.length, null, (error, length) => {
      if (error === null) pass(Buffer.from(buffer.subarray(0, length)), to);
      // A device that is not up yet has nothing to read.
      if (error === null) next();
      else setTimeout(next, 10);
    });
  next();
}

function pass(packet: Buffer, to: number): void {
  counts.packets += 1;
  if (waiting >= MOST_WAITING) {
    counts.lost += 1;
    return;
  }
  const holds = Math.random() < shape.heldBack;
  if (holds) counts.heldBack += 1;
  waiting += 1;
  setTimeout(
    () => {
      waiting -= 1;
      try {
        writeSync(to, packet);
      } catch {
        counts.lost += 1;
      }
    },
    shape.delayMs + (holds ? shape.heldBackMs : 0),
  );
}
