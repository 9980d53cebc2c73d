import { readLinkRecord } from "../../daemon/credentials.ts";
import { readHolder } from "../../daemon/lock.ts";
import { httpRequest } from "../../net/http-request.ts";
import { asRecord, textOf } from "../record.ts";
import { type Check, fail, ok, type Patient, skip, warn } from "./check.ts";

/** Seconds: the signatures' window is 30 s back; the daemon corrects what the hub tells it. */
const CLOCK_WARN_SECONDS = 10;
const HUB_TIMEOUT_MS = 5000;

export const linkChecks: readonly Check[] = [
  {
    id: "daemon",
    title: "daemon",
    fix: "End the daemon that does not answer, and start it again.",
    run: async ({ snapshot, config: { paths } }) => {
      if (snapshot === undefined)
        return warn("no daemon runs on this home", "Start one with `deco up` or `deco link`.");
      const holder = await readHolder(paths.holderFile);
      return ok(`${textOf(snapshot["state"])}${holder ? `, pid ${holder.pid}` : ""}`);
    },
  },
  {
    id: "hub",
    title: "hub",
    fix: "Check the hub's address and the network.",
    run: async (patient) => {
      if (patient.hub === undefined) return skip("no hub is known");
      const answer = await askHub(patient, patient.hub);
      const body = asRecord(await answer.json(64 * 1024).catch(() => undefined));
      if (answer.status === 200 && body["status"] === "ok") return ok(patient.hub);
      return fail(
        `${patient.hub}/healthz answered ${answer.status}`,
        "Check that a deco hub answers at that address, not a proxy or a login page.",
      );
    },
  },
  {
    id: "clock",
    title: "clock",
    fix: "Set this machine's clock, by NTP for example.",
    run: async (patient) => {
      if (patient.hub === undefined) return skip("no hub to compare with");
      const before = Date.now();
      const answer = await askHub(patient, patient.hub).catch(() => undefined);
      if (answer === undefined) return skip("the hub does not answer");
      await answer.body.cancel();
      const theirs = Date.parse(answer.headers.get("date") ?? "");
      if (Number.isNaN(theirs)) return skip("the hub's answer has no date");
      // The header has whole seconds: its middle is the best guess.
      const offset = (theirs + 500 - (before + Date.now()) / 2) / 1000;
      const detail = `${Math.abs(offset).toFixed(1)} s ${offset > 0 ? "behind" : "ahead of"} the hub`;
      if (Math.abs(offset) <= CLOCK_WARN_SECONDS) return ok(detail);
      return warn(detail, "Set the clock; until then the daemon goes by the hub's time.");
    },
  },
  {
    id: "enrolled",
    title: "enrolled",
    fix: "Run `deco login`, then `deco link`.",
    run: async ({ config: { paths } }) => {
      const record = await readLinkRecord(paths.linkFile);
      if (record === undefined)
        return warn(
          "this laptop was never registered",
          "Run `deco up`; or `deco login`, then `deco link`.",
        );
      return ok(`${record.linkId} at ${record.hub}`);
    },
  },
  {
    id: "tunnel",
    title: "tunnel",
    fix: "Look at `deco status`.",
    run: async ({ snapshot }) => {
      if (snapshot === undefined) return skip("no daemon runs");
      const state = textOf(snapshot["state"]);
      const detail = `link ${state}, tunnel ${textOf(snapshot["tunnel"])}`;
      if (state === "online") return ok(detail);
      const error = asRecord(snapshot["error"]);
      const why = textOf(error["detail"]);
      return fail(
        why === "" ? detail : `${detail}: ${why}`,
        textOf(error["fix"]) || "Check that the hub answers; the daemon dials again by itself.",
      );
    },
  },
];

function askHub({ signal }: Patient, hub: string) {
  return httpRequest({
    url: `${hub.replace(/\/+$/, "")}/healthz`,
    signal,
    connectTimeoutMs: HUB_TIMEOUT_MS,
    headersTimeoutMs: HUB_TIMEOUT_MS,
    unreachable: "hub_unreachable",
  });
}
