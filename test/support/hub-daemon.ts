import { randomUUID } from "node:crypto";
import type { JWK } from "jose";
import { Wakeups } from "../../src/hub/wakeups.ts";
import { type DialedTunnel, dialTunnel } from "../../src/net/tunnel-dial.ts";
import { CHAIN_START, nextChain } from "../../src/protocol/chain.ts";
import { DecoError, type ErrorCode } from "../../src/protocol/errors.ts";
import { Ack, DispatchRun, Registered } from "../../src/protocol/messages.ts";
import { NonceCache } from "../../src/protocol/nonces.ts";
import { makeProof, newMachineKey } from "../../src/protocol/proof.ts";
import { encodeRunEvent, terminalStatus } from "../../src/protocol/run-events.ts";
import { call } from "./hub-call.ts";
import { signedAnswer, verified } from "./hub-daemon-signed.ts";

export interface FakeRun {
  readonly runId: string;
  attempt: number;
  readonly lines: { type: string; data: string }[];
  /** Events up to here are gone from the journal. */
  truncated: number;
  acked: number;
}

/**
 * The far side of the hub: a laptop that registers, beats, dials, and serves a scripted control
 * plane from an in-memory journal. It verifies each request of the hub and signs each answer.
 */
export class FakeDaemon {
  readonly machineId: string;
  readonly runs = new Map<string, FakeRun>();
  readonly dispatched: DispatchRun[] = [];
  readonly cancelled: string[] = [];
  readonly answers: { path: string; body: unknown }[] = [];
  readonly acks: { runId: string; seq: number; chain: string }[] = [];
  /** What went wrong while a request of the hub was checked. */
  readonly refused: ErrorCode[] = [];
  capabilities: object[] = [{ name: "docker" }, { name: "shell" }];
  /** Throws to refuse a run. */
  onDispatch: (body: DispatchRun) => void | Promise<void> = () => undefined;
  /** Cuts an event stream after so many events, once per entry. */
  readonly cuts: number[] = [];
  /** Sends events from this number again at each reconnect. */
  replayFrom: number | undefined;
  /** Answers with this chain error while above 0. */
  chainMismatches = 0;
  /** What somebody on the way does to a line. */
  forge: (data: string) => string = (data) => data;
  /** Answers so many event requests with a page of some proxy. */
  page = 0;
  /** Fails at so many acks, whatever they say. */
  failAcks = 0;
  /** Truncates at so many acks, but their answers never come. */
  loseAckAnswers = 0;
  signAnswers = true;
  registered: Registered | undefined;
  tunnel: DialedTunnel | undefined;
  key: { privateJwk: JWK; publicJwk: JWK } | undefined;
  readonly #wakeups = new Wakeups();
  readonly #nonces = new NonceCache({ now: Date.now });
  readonly hub: string;

  constructor(hub: string, machineId: string = randomUUID()) {
    this.hub = hub;
    this.machineId = machineId;
  }

  /** Another process with the same identity. */
  twin(hub = this.hub): FakeDaemon {
    const other = new FakeDaemon(hub, this.machineId);
    other.key = this.key;
    for (const [id, run] of this.runs) other.runs.set(id, run);
    return other;
  }

  async registration(over: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    this.key ??= await newMachineKey();
    const proof = await makeProof({
      privateKey: this.key.privateJwk,
      audience: new URL(this.hub).origin,
      machineId: this.machineId,
      now: Date.now(),
    });
    return {
      machineId: this.machineId,
      name: "laptop",
      hostname: "laptop.local",
      platform: "linux",
      arch: "x64",
      cliVersion: "0.1.0",
      protocolVersion: 1,
      capabilities: this.capabilities,
      publicKey: this.key.publicJwk,
      proof,
      ...over,
    };
  }

  async register(token?: string, over: Record<string, unknown> = {}): Promise<Registered> {
    const answer = await call(this.hub, {
      method: "POST",
      path: "/api/links",
      body: await this.registration(over),
      ...(token === undefined ? {} : { token }),
    });
    if (answer.status !== 201) throw DecoError.fromProblem(answer.body);
    this.registered = Registered.parse(answer.body);
    return this.registered;
  }

  get linkId(): string {
    return this.#session().linkId;
  }

  #session(): Registered {
    if (this.registered === undefined) throw new Error("not registered");
    return this.registered;
  }

  beat(over: Record<string, unknown> = {}) {
    const { linkSecret, epoch } = this.#session();
    const body = { epoch, state: "online", load: { runs: 0 }, runs: [], ...over };
    return call(this.hub, {
      method: "POST",
      path: "/api/links/heartbeat",
      secret: linkSecret,
      body,
    });
  }

  async dial(): Promise<DialedTunnel> {
    this.tunnel = await dialTunnel({
      url: `${this.hub}/api/links/tunnel`,
      headers: { "x-link-secret": this.#session().linkSecret },
      handler: (request) => this.fetch(request),
      signal: new AbortController().signal,
    });
    return this.tunnel;
  }

  async start(token: string): Promise<void> {
    await this.register(token);
    await this.beat();
    await this.dial();
  }

  async cut(): Promise<void> {
    this.tunnel?.close(1001, "cut by the test");
    await this.tunnel?.closed;
  }

  emit(runId: string, type: string, payload: Record<string, unknown> = {}): void {
    const run = this.run(runId);
    const seq = run.lines.length + 1;
    const data = encodeRunEvent({ seq, runId, type, at: new Date().toISOString(), payload });
    run.lines.push({ type, data });
    this.#wakeups.wake(runId);
  }

  run(runId: string): FakeRun {
    const run = this.runs.get(runId) ?? { runId, attempt: 1, lines: [], truncated: 0, acked: 0 };
    this.runs.set(runId, run);
    return run;
  }

  chainAt(runId: string, seq: number): string {
    return this.run(runId)
      .lines.slice(0, seq)
      .reduce((chain, { data }) => nextChain(chain, data), CHAIN_START);
  }

  /** The signed control plane. */
  readonly fetch = async (request: Request): Promise<Response> => {
    const requestSignature = request.headers.get("signature") ?? "";
    let answer: Response;
    try {
      const body = await verified(this.#session(), this.#nonces, request);
      answer = await this.#route(request, body);
    } catch (error) {
      const problem = DecoError.from(error).toProblem();
      if (problem.status === 401) this.refused.push(problem.code);
      answer = Response.json(problem, {
        status: problem.status,
        headers: { "content-type": "application/problem+json" },
      });
    }
    if (answer.headers.get("content-type")?.startsWith("text/event-stream") || !this.signAnswers) {
      return answer;
    }
    return await signedAnswer(this.#session(), answer, requestSignature);
  };

  async #route(request: Request, body: unknown): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/v1/status") return Response.json({ state: "online" });
    if (pathname === "/v1/runs") return this.#dispatch(DispatchRun.parse(body));
    const [, , , runId = "", verb] = pathname.split("/");
    const run = this.runs.get(runId);
    if (verb === "cancel") {
      this.cancelled.push(runId);
      return Response.json({}, { status: 202 });
    }
    if (run === undefined) throw new DecoError("run_not_found", "no such run");
    if (verb === "events")
      return this.#events(run, Number(searchParams.get("after") ?? 0), request.signal);
    if (verb === "ack") return this.#ack(run, Ack.parse(body));
    if (verb === undefined) {
      const last = run.lines.at(-1);
      const status = (last && terminalStatus(last.type)) ?? "running";
      const { attempt, lines, truncated } = run;
      return Response.json({
        runId,
        attempt,
        status,
        firstSeq: truncated + 1,
        lastSeq: lines.length,
      });
    }
    this.answers.push({ path: pathname, body });
    return Response.json({}, { status: 202 });
  }

  async #dispatch(body: DispatchRun): Promise<Response> {
    await this.onDispatch(body);
    this.dispatched.push(body);
    this.run(body.runId);
    return Response.json({ runId: body.runId, attempt: 1, status: "queued" }, { status: 202 });
  }

  #ack(run: FakeRun, { seq, chain }: { seq: number; chain: string }): Response {
    const { truncated } = run;
    if (this.failAcks-- > 0) throw new DecoError("unavailable", "not now");
    const scripted = this.chainMismatches > 0;
    if (scripted || chain !== this.chainAt(run.runId, seq)) {
      if (scripted) this.chainMismatches -= 1;
      const extensions = { ackedSeq: truncated, ackedChain: this.chainAt(run.runId, truncated) };
      throw new DecoError("chain_mismatch", "another chain", { extensions });
    }
    if (this.loseAckAnswers > 0) {
      this.loseAckAnswers -= 1;
      run.truncated = Math.max(run.truncated, seq);
      throw new DecoError("unavailable", "the answer was lost");
    }
    run.acked = Math.max(run.acked, seq);
    this.acks.push({ runId: run.runId, seq, chain });
    return Response.json({});
  }

  #events(run: FakeRun, after: number, signal: AbortSignal): Response {
    if (this.page > 0) {
      this.page -= 1;
      return new Response("<h1>Hello</h1>", { headers: { "content-type": "text/html" } });
    }
    if (after < run.truncated) {
      throw new DecoError("events_truncated", "gone", {
        extensions: {
          firstSeq: run.truncated + 1,
          chain: this.chainAt(run.runId, run.truncated),
        },
      });
    }
    if (after > run.lines.length) throw new DecoError("seq_ahead", "not yet");
    const from = Math.min(after, this.replayFrom ?? after);
    const cutAfter = this.cuts.shift();
    const wakeups = this.#wakeups;
    const forge = (data: string) => this.forge(data);
    const encoder = new TextEncoder();
    async function* lines(): AsyncGenerator<Uint8Array> {
      let sent = 0;
      yield encoder.encode(": open\n\n");
      for (let seq = from; !signal.aborted; ) {
        if (sent === cutAfter) return;
        const line = run.lines[seq];
        if (line === undefined) {
          const last = run.lines.at(-1);
          if (last !== undefined && terminalStatus(last.type) !== undefined) return;
          await wakeups.next(run.runId, signal);
          continue;
        }
        seq += 1;
        sent += 1;
        yield encoder.encode(`event: ${line.type}\nid: ${seq}\ndata: ${forge(line.data)}\n\n`);
        if (terminalStatus(line.type) !== undefined) return;
      }
    }
    const source = lines();
    const stream = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { done, value } = await source.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    });
    return new Response(stream, { headers: { "content-type": "text/event-stream" } });
  }

  async stop(): Promise<void> {
    await this.cut();
    this.#wakeups.wakeAll();
  }
}
