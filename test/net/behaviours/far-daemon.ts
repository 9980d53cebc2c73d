import { dialTunnel } from "../../../src/net/tunnel-dial.ts";
import { app } from "./tunnel-app.ts";
import { never } from "./tunnel-pair.ts";

// A daemon's end in a process, and a runtime, of its own: far-daemon <url>
const url = process.argv[2] ?? "";
const tunnel = await dialTunnel({ url, headers: {}, handler: app(), signal: never });
const { code } = await tunnel.closed;
process.exit(code === 4000 ? 0 : 1);
