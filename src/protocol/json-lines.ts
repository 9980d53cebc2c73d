/** Why a text is no JSON, and where. */
export class JsonLineError extends Error {
  override readonly name = "JsonLineError";
  /** From 1. */
  readonly line: number;

  constructor(line: number, what: string) {
    super(`line ${line}: ${what}`);
    this.line = line;
  }
}

export interface JsonLines {
  readonly value: unknown;
  /** Line, from 1, on which the member of this path begins; of its nearest parent where it is absent. */
  readonly lineOf: (path: readonly PropertyKey[]) => number;
}

const DEPTH = 64;
const SPACE = /[ \t\r\n]*/y;
/** Where a string or a word ends; what is in it, JSON.parse judges. */
const TOKEN = /"(?:[^"\\]|\\[^])*"|[-+.\w]+/y;

/**
 * JSON (RFC 8259) of which each member's line is known, for files that people write by hand. A name
 * given twice in one object is an error: readers would disagree on which one counts.
 *
 * @throws JsonLineError
 */
export function parseJsonLines(text: string): JsonLines {
  const reader = new Reader(text);
  const value = reader.value([], 0);
  reader.end();
  const lineOf = (path: readonly PropertyKey[]): number => {
    const at = reader.lines.get(keyOf(path));
    return at ?? (path.length === 0 ? 1 : lineOf(path.slice(0, -1)));
  };
  return { value, lineOf };
}

const keyOf = (path: readonly PropertyKey[]) => JSON.stringify(path.map(String));

class Reader {
  readonly lines = new Map<string, number>();
  readonly #text: string;
  #at = 0;
  /** How far lines were counted, so that each character is counted once. */
  #counted = { at: 0, line: 1 };

  constructor(text: string) {
    this.#text = text;
  }

  value(path: readonly PropertyKey[], depth: number): unknown {
    if (depth > DEPTH) throw this.#error("is nested too deeply");
    this.#space();
    if (!this.lines.has(keyOf(path))) this.lines.set(keyOf(path), this.#line());
    if (this.#take("{")) return this.#object(path, depth);
    if (this.#take("[")) return this.#array(path, depth);
    return this.#token();
  }

  end(): void {
    this.#space();
    if (this.#at < this.#text.length) throw this.#error("something follows the JSON value");
  }

  #object(path: readonly PropertyKey[], depth: number): Record<string, unknown> {
    const members = new Map<string, unknown>();
    this.#space();
    if (this.#take("}")) return {};
    do {
      this.#space();
      if (this.#text[this.#at] !== '"') throw this.#error("a name in double quotes is missing");
      const line = this.#line();
      const name = String(this.#token());
      if (members.has(name)) throw this.#error(`"${name}" is there twice`);
      this.lines.set(keyOf([...path, name]), line);
      this.#space();
      if (!this.#take(":")) throw this.#error(`":" is missing behind "${name}"`);
      members.set(name, this.value([...path, name], depth + 1));
      this.#space();
    } while (this.#take(","));
    if (!this.#take("}")) throw this.#error('"," or "}" is missing');
    return Object.fromEntries(members);
  }

  #array(path: readonly PropertyKey[], depth: number): unknown[] {
    const items: unknown[] = [];
    this.#space();
    if (this.#take("]")) return items;
    do {
      items.push(this.value([...path, items.length], depth + 1));
      this.#space();
    } while (this.#take(","));
    if (!this.#take("]")) throw this.#error('"," or "]" is missing');
    return items;
  }

  #token(): unknown {
    TOKEN.lastIndex = this.#at;
    const found = TOKEN.exec(this.#text)?.[0] ?? "";
    try {
      const value: unknown = JSON.parse(found);
      this.#at += found.length;
      return value;
    } catch {
      throw this.#error("is not JSON");
    }
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #space(): void {
    SPACE.lastIndex = this.#at;
    this.#at += SPACE.exec(this.#text)?.[0].length ?? 0;
  }

  #line(): number {
    // It only goes forward.
    let { at, line } = this.#counted;
    for (; at < this.#at; at++) if (this.#text[at] === "\n") line += 1;
    this.#counted = { at, line };
    return line;
  }

  #error(what: string): JsonLineError {
    return new JsonLineError(this.#line(), what);
  }
}
