// The page's script. Plain JavaScript for browsers, no build step. What comes from a hub, a link or
// a sandbox becomes text nodes, never markup.

const HARNESSES = ["shell", "claude-code", "codex", "decopilot", "acp"];
const PROVIDERS = ["docker", "virtualbox", "process"];
const TERMINAL = ["run.completed", "run.failed", "run.cancelled"];
const LINK_POLL_MS = 3000;
/** Older output is dropped from the page behind this many blocks; the log keeps all. */
const MAX_BLOCKS = 2000;

const byId = (id) => document.getElementById(id);

async function api(path, { method = "GET", body, headers = {}, signal } = {}) {
  const options = { method, headers: { accept: "application/json", ...headers }, signal };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const value = await answer.json().catch(() => undefined);
  if (answer.ok) return value;
  if (answer.status === 401) location.reload();
  throw new Error(
    value?.detail ? `${value.title}: ${value.detail} ${value.fix}` : `HTTP ${answer.status}`,
  );
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.append(String(text));
  if (className) made.className = className;
  return made;
}

// Main page

function startMain() {
  byId("prompt-form").addEventListener("submit", (event) => void startRun(event));
  byId("harness").addEventListener("change", showReason);
  byId("cancel").addEventListener("click", () => void cancelRun());
  byId("connect-command").append(
    `deco login --hub ${location.origin}\ndeco link --hub ${location.origin}`,
  );
  addEventListener("popstate", showRunOfUrl);
  showHarnesses([], false);
  void pollLink();
  void showRecent();
  showRunOfUrl();
}

async function pollLink() {
  for (;;) {
    if (!document.hidden) await showLink().catch((error) => setLinkState(error.message));
    await new Promise((resolve) => setTimeout(resolve, LINK_POLL_MS));
  }
}

async function showLink() {
  const { status, link } = await api("/api/links/me");
  const online = status === "online";
  setLinkState(link ? `${link.name ?? link.linkId}: ${status}` : "no link", status);
  byId("connect").hidden = online;
  const capabilities = Array.isArray(link?.capabilities) ? link.capabilities : [];
  byId("capabilities").replaceChildren(
    ...capabilities.map(({ name, available, version, reason }) => {
      const present = available !== false;
      const text = `${present ? "✓" : "✗"} ${name}${version ? ` ${version}` : ""}`;
      const item = element("li", text, present ? "ok" : "absent");
      if (reason) item.append(` (${reason})`);
      return item;
    }),
  );
  showHarnesses(capabilities, online);
}

function setLinkState(text, status = "unknown") {
  const state = byId("link-state");
  state.textContent = text;
  state.dataset.state = status;
}

/** Why this link can't run a harness; undefined when it can. */
function reasonAgainst(harness, capabilities, online) {
  if (!online) return "no link is online";
  const named = capabilities.find(({ name }) => name === harness);
  if (named) return named.available === false ? (named.reason ?? "absent") : undefined;
  const confines = capabilities.some(
    ({ name, available }) => PROVIDERS.includes(name) && available !== false,
  );
  if (harness === "shell") return confines ? undefined : "this link has no sandbox provider";
  return "this link does not offer it";
}

let reasons = {};

function showHarnesses(capabilities, online) {
  const select = byId("harness");
  const chosen = select.value;
  reasons = Object.fromEntries(
    HARNESSES.map((name) => [name, reasonAgainst(name, capabilities, online)]),
  );
  const wanted = JSON.stringify(reasons);
  if (select.dataset.reasons === wanted) return;
  select.dataset.reasons = wanted;
  select.replaceChildren(
    ...HARNESSES.map((name) => {
      const reason = reasons[name];
      const option = element("option", reason === undefined ? name : `${name} (${reason})`);
      option.value = name;
      option.disabled = reason !== undefined;
      return option;
    }),
  );
  const usable = HARNESSES.filter((name) => reasons[name] === undefined);
  select.value = usable.includes(chosen) ? chosen : (usable[0] ?? "");
  byId("start").disabled = usable.length === 0;
  showReason();
}

function showReason() {
  byId("harness-reason").textContent = reasons[byId("harness").value] ?? "";
}

async function startRun(event) {
  event.preventDefault();
  const button = byId("start");
  button.disabled = true;
  byId("form-error").textContent = "";
  try {
    const body = { harness: byId("harness").value, prompt: byId("prompt").value };
    const headers = { "idempotency-key": newKey() };
    const { runId } = await api("/api/runs", { method: "POST", body, headers });
    history.pushState(null, "", `/runs/${encodeURIComponent(runId)}`);
    showRunOfUrl();
    await showRecent();
  } catch (error) {
    byId("form-error").textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

/** randomUUID exists in secure contexts only; a hub on a LAN name is none. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

async function showRecent() {
  const answer = await api("/api/runs").catch(() => undefined);
  const runs = (Array.isArray(answer) ? answer : (answer?.runs ?? [])).slice(0, 20);
  byId("recent").replaceChildren(
    ...runs.map((run) => {
      const link = element("a", run.runId);
      link.href = `/runs/${encodeURIComponent(run.runId)}`;
      const item = element("li");
      item.append(link, ` ${run.status} · ${run.harness ?? ""} · ${run.createdAt ?? ""}`);
      return item;
    }),
  );
}

// One run

let shown;

function showRunOfUrl() {
  shown?.stop.abort();
  shown = undefined;
  const match = /^\/runs\/([^/]+)$/.exec(location.pathname);
  byId("run").hidden = match === null;
  if (match === null) return;
  shown = { runId: decodeURIComponent(match[1]), last: 0, stop: new AbortController() };
  byId("run-id").textContent = shown.runId;
  byId("run-error").textContent = "";
  byId("events").replaceChildren();
  setRunStatus("queued");
  void follow(shown);
}

/** Reads the run's events to its terminal one; every reconnect resumes behind the last number. */
async function follow(run) {
  for (let failures = 0; !run.ended && !run.stop.signal.aborted; failures++) {
    try {
      const answer = await fetch(`/api/runs/${encodeURIComponent(run.runId)}/events`, {
        headers: { accept: "text/event-stream", "last-event-id": String(run.last) },
        signal: run.stop.signal,
      });
      if (!answer.ok) {
        const problem = await answer.json().catch(() => undefined);
        byId("run-error").textContent = problem?.detail ?? `HTTP ${answer.status}`;
        if (answer.status < 500) return;
      } else {
        byId("run-error").textContent = "";
        for await (const event of sseEvents(answer.body)) {
          failures = 0;
          showEvent(run, event);
        }
      }
    } catch {
      if (run.stop.signal.aborted) return;
    }
    if (run.ended) break;
    await new Promise((resolve) => setTimeout(resolve, Math.min(5000, 250 * 2 ** failures)));
  }
  if (run.ended) void showRecent();
}

/** The `data` of each SSE frame, parsed. */
async function* sseEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const frames = (rest + value).split(/\r?\n\r?\n/);
    rest = frames.pop() ?? "";
    for (const frame of frames) {
      const data = frame
        .split(/\r?\n/)
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).replace(/^ /, ""))
        .join("\n");
      if (data !== "") yield JSON.parse(data);
    }
  }
}

function showEvent(run, event) {
  if (run !== shown || event.seq <= run.last) return;
  run.last = event.seq;
  byId("events").dataset.last = String(event.seq);
  const payload = event.payload ?? {};
  const show = SHOW[event.type];
  if (show) show(payload);
  else if (TERMINAL.includes(event.type)) showEnd(run, event);
}

/** What each type of event looks like; types that are not here show nothing. */
const SHOW = {
  "run.queued": () => setRunStatus("queued"),
  "run.started": () => setRunStatus("running"),
  "run.resumed": () => setRunStatus("running"),
  "run.waiting_for_user": () => setRunStatus("waiting"),
  "sandbox.provisioning": ({ stage, ms, progress }) =>
    ms === undefined && progress === undefined && block("p", `sandbox: ${stage}`, "note"),
  "sandbox.ready": ({ handle, provider }) =>
    block("p", `sandbox ${handle} is ready (${provider})`, "note"),
  "assistant.message.delta": ({ content }) => stream("message", content),
  "tool.call.started": ({ tool, arguments: given }) =>
    block("p", `${tool} ${JSON.stringify(given ?? {})}`, "note"),
  "tool.output.delta": ({ stream: name, content }) =>
    stream(name === "stderr" ? "stderr" : "stdout", content),
};

function showEnd(run, { type, payload = {} }) {
  run.ended = true;
  setRunStatus(type.slice("run.".length));
  if (type === "run.failed")
    block("p", `${payload.leg}: ${payload.code}: ${payload.detail} ${payload.fix}`, "error");
  if (type === "run.completed") {
    const { receipt } = payload;
    const where = receipt ? `, in ${receipt.provider} sandbox ${receipt.handle}` : "";
    block("p", `exit code ${payload.exitCode ?? "none"}${where}`, "ok");
  }
}

/** Text that goes on joins the block before it, when that is of the same kind. */
function stream(kind, content) {
  const last = byId("events").lastElementChild;
  if (last?.dataset.kind === kind) last.append(content ?? "");
  else block("pre", content ?? "", kind).dataset.kind = kind;
}

function block(name, text, className) {
  const events = byId("events");
  const made = element(name, text, className);
  events.append(made);
  while (events.childElementCount > MAX_BLOCKS) events.firstElementChild.remove();
  return made;
}

function setRunStatus(status) {
  byId("run-status").textContent = status;
  byId("run-status").dataset.status = status;
  byId("cancel").hidden = !["queued", "running", "waiting"].includes(status);
}

async function cancelRun() {
  const path = `/api/runs/${encodeURIComponent(shown.runId)}/cancel`;
  await api(path, { method: "POST", body: {} }).catch((error) => {
    byId("run-error").textContent = error.message;
  });
}

// Device page

function startDevice() {
  const code = new URLSearchParams(location.search).get("user_code");
  if (code) byId("user-code").value = code;
  byId("device-form").addEventListener("submit", (event) => void answerDevice(event));
}

async function answerDevice(event) {
  event.preventDefault();
  const approve = event.submitter?.value !== "deny";
  const body = { userCode: byId("user-code").value.trim(), approve };
  const done = approve ? "Approved. The terminal goes on by itself." : "Denied.";
  byId("device-result").textContent = await api("/api/device/approve", { method: "POST", body })
    .then(() => done)
    .catch((error) => error.message);
}

if (document.body.dataset.page === "main") startMain();
if (document.body.dataset.page === "device") startDevice();
