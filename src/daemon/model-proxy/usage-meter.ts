import { SseDecoder } from "../../protocol/sse.ts";

interface Tokens {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** A JSON answer over this is estimated by its size. */
const MAX_JSON_BYTES = 16 * 1024 * 1024;
/** A usual rule of thumb, used where a service doesn't tell. */
const BYTES_PER_TOKEN = 4;

/**
 * Reads what a model's answer says of its usage, beside the bytes that pass by. Where it says
 * nothing, or was broken off, it estimates, so that breaking off answers is no way around a budget.
 */
export class UsageMeter {
  readonly #decoder: SseDecoder | undefined;
  readonly #parses: boolean;
  #json: Uint8Array[] = [];
  #bytes = 0;
  #deltas = 0;
  #inputTokens: number | undefined;
  #outputTokens = 0;
  /** Whether the last word on output tokens was heard. */
  #final = false;

  constructor(answer: { contentType: string | undefined; contentEncoding: string | undefined }) {
    const type = answer.contentType?.split(";")[0]?.trim().toLowerCase();
    this.#parses = (answer.contentEncoding ?? "identity") === "identity";
    if (type === "text/event-stream" && this.#parses) this.#decoder = new SseDecoder();
  }

  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    if (this.#decoder !== undefined) this.#pushEvents(this.#decoder, chunk);
    else if (this.#parses && this.#bytes <= MAX_JSON_BYTES) this.#json.push(chunk);
  }

  /**
   * What the answer used up to now; all of it when it has ended.
   *
   * @param requestBytes - The size of what was sent, for the estimate.
   */
  soFar(requestBytes: number): Tokens {
    const inputTokens = this.#inputTokens ?? Math.ceil(requestBytes / BYTES_PER_TOKEN);
    const guess = this.#decoder ? this.#deltas : Math.ceil(this.#bytes / BYTES_PER_TOKEN);
    return {
      inputTokens,
      outputTokens: this.#final ? this.#outputTokens : Math.max(this.#outputTokens, guess),
    };
  }

  /** The answer has ended, or was broken off: reads a JSON one. */
  end(): void {
    if (this.#decoder === undefined && this.#bytes <= MAX_JSON_BYTES) {
      this.#read(Buffer.concat(this.#json).toString("utf8"));
    }
    this.#json = [];
  }

  #pushEvents(decoder: SseDecoder, chunk: Uint8Array): void {
    try {
      for (const { data } of decoder.push(chunk)) {
        if (data.includes('"delta"')) this.#deltas += 1;
        if (data.includes('"usage"')) this.#read(data);
      }
    } catch {
      // An event beyond all measure: its tokens stay an estimate, the bytes go on.
      this.#deltas += Math.ceil(chunk.length / BYTES_PER_TOKEN);
    }
  }

  #read(text: string): void {
    const value = parse(text);
    // Anthropic: message_start has it in `message`, message_delta and JSON at the top.
    // OpenAI: chat at the top of the last chunk, responses in `response` of response.completed.
    const message = member(value, "message");
    const usage = [value, message, member(value, "response")]
      .map((holder) => member(holder, "usage"))
      .find((found) => found !== undefined);
    if (usage === undefined) return;
    const input = number(usage, "input_tokens") ?? number(usage, "prompt_tokens");
    const cached =
      (number(usage, "cache_creation_input_tokens") ?? 0) +
      (number(usage, "cache_read_input_tokens") ?? 0);
    if (input !== undefined) this.#inputTokens = Math.max(this.#inputTokens ?? 0, input + cached);
    const output = number(usage, "output_tokens") ?? number(usage, "completion_tokens");
    if (output === undefined) return;
    this.#outputTokens = Math.max(this.#outputTokens, output);
    if (message === undefined) this.#final = true;
  }
}

type Json = Readonly<Record<string, unknown>>;

function parse(text: string): Json | undefined {
  try {
    return asObject(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function member(value: Json | undefined, name: string): Json | undefined {
  return asObject(value?.[name]);
}

function asObject(value: unknown): Json | undefined {
  return isObject(value) ? value : undefined;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function number(value: Json, name: string): number | undefined {
  const found = value[name];
  return typeof found === "number" && Number.isFinite(found) && found >= 0 ? found : undefined;
}
