import { z } from "zod";
import { DecoError } from "../../protocol/errors.ts";
import { mayBeTar, TAR_TYPE } from "../../protocol/tar-rules.ts";
import type { RouteAnswer } from "../control-client.ts";
import type { HubContext } from "../hub-context.ts";
import { noBody, type Route, type RouteInput, route } from "../route.ts";
import { runOf } from "./runs.ts";

const Unpacked = z.object({ files: z.int(), bytes: z.int() });
const ERRORS = [
  "run_not_found",
  "sandbox_not_found",
  "link_offline",
  "isolation_unavailable",
  "policy_denied",
  "tunnel_lost",
] as const;

/** Files into and out of the sandbox of a run: streams, of which the hub keeps nothing. */
export function runFileRoutes(hub: HubContext): Route[] {
  return [uploadRoute(hub), ...downloadRoutes(hub)];
}

function uploadRoute(hub: HubContext): Route {
  return route(
    {
      method: "PUT",
      path: "/api/runs/:id/archive",
      summary: "Unpack a tar in the workspace of a run's sandbox",
      auth: "user",
      body: noBody,
      streams: TAR_TYPE,
      query: { ref: "The name by which the run waits for it (sandbox.workspace.ref)" },
      answers: { 200: { description: "What was unpacked", schema: Unpacked } },
      errors: [
        ...ERRORS,
        "unsupported_media_type",
        "archive_invalid",
        "body_too_large",
        "workspace_failed",
        "sandbox_lost",
      ],
    },
    async (input) => {
      const { c } = input;
      const { body, signal } = c.req.raw;
      if (body === null || !mayBeTar(c.req.header("content-type"))) {
        throw new DecoError("unsupported_media_type", "this route takes a tar", {
          fix: `Send content-type: ${TAR_TYPE}.`,
        });
      }
      const { client, path } = hub.dispatcher.filesOf(runOf(hub, input));
      const query = queryOf(input, ["ref"]);
      return c.json(Unpacked.parse(await client.upload(`${path}/archive${query}`, body, signal)));
    },
  );
}

function downloadRoutes(hub: HubContext): Route[] {
  const common = { method: "GET", auth: "user", body: noBody } as const;
  const download = async (input: RouteInput<undefined>, what: string, names: string[]) => {
    const { client, path } = hub.dispatcher.filesOf(runOf(hub, input));
    const query = queryOf(input, names);
    return passedOn(await client.download(`${path}/${what}${query}`, input.c.req.raw.signal));
  };
  return [
    route(
      {
        ...common,
        path: "/api/runs/:id/archive",
        summary: "Files of a run's workspace as a tar, also when its sandbox has stopped",
        query: { match: "A pattern such as dist/**/*.js, again for more; all files when absent" },
        answers: { 200: { description: "A tar without compression", type: TAR_TYPE } },
        errors: [...ERRORS, "invalid_request"],
      },
      (input) => download(input, "archive", ["match"]),
    ),
    route(
      {
        ...common,
        path: "/api/runs/:id/files",
        summary: "One file of a run's workspace",
        query: { path: "Its path below the workspace" },
        answers: { 200: { description: "Its bytes", type: "application/octet-stream" } },
        errors: [...ERRORS, "invalid_request", "file_not_found"],
      },
      (input) => download(input, "files", ["path"]),
    ),
  ];
}

/** Nothing of a sandbox is ever shown by a browser as a page of ours. */
function passedOn({ body, headers }: RouteAnswer): Response {
  const type = headers.get("content-type") === TAR_TYPE ? TAR_TYPE : "application/octet-stream";
  const length = headers.get("content-length");
  return new Response(body, {
    headers: {
      "content-type": type,
      "content-disposition": "attachment",
      ...(length === null ? {} : { "content-length": length }),
    },
  });
}

function queryOf({ c }: Pick<RouteInput<unknown>, "c">, names: readonly string[]): string {
  const query = new URLSearchParams();
  for (const name of names) {
    for (const value of c.req.queries(name) ?? []) query.append(name, value);
  }
  return query.size === 0 ? "" : `?${query.toString()}`;
}
