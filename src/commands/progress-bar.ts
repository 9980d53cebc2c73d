/** One line at the bottom of a terminal that shows how far something is. */
export interface Bar {
  /** @param fraction 0 to 1; undefined: as far as before */
  show(line: string, fraction: number | undefined): void;
  /** Takes the bar away; what is printed next begins on an empty line. */
  clear(): void;
}

const WIDTH = 24;
/** Steps in which something that is not a terminal hears of the share. */
const QUARTER = 0.25;

interface BarStream {
  write(text: string): unknown;
  /** Of a terminal; 80 when it does not say. */
  readonly columns?: number;
}

/** @param animated false: plain lines, at every quarter and for what has no share */
export function createBar(stream: BarStream, animated: boolean): Bar {
  let shown = "";
  let told = -1;
  const clear = () => {
    if (shown !== "") stream.write("\r\u001B[2K");
    shown = "";
  };
  const draw = (text: string) => {
    if (text === shown) return;
    clear();
    stream.write(text);
    shown = text;
  };
  const tell = (line: string, fraction: number | undefined) => {
    const quarter = fraction === undefined ? undefined : Math.floor(fraction / QUARTER);
    if (quarter !== undefined && quarter === told) return;
    told = quarter ?? told;
    const share = quarter === undefined ? "" : ` ${quarter * QUARTER * 100}%`;
    stream.write(`  ${line.trim()}${share}\n`);
  };
  let last = 0;
  return {
    clear,
    show: (line, fraction) => {
      last = fraction ?? last;
      if (animated) draw(drawn(line, last, stream.columns || 80));
      else tell(line, fraction);
    },
  };
}

function drawn(line: string, fraction: number, columns: number): string {
  const share = Math.min(1, Math.max(0, fraction));
  const full = Math.round(share * WIDTH);
  const percent = `${Math.round(share * 100)}`.padStart(3);
  const bar = `[${"#".repeat(full)}${" ".repeat(WIDTH - full)}] ${percent}%`;
  // One line, shorter than the terminal: what wraps can't be taken away again.
  const text = `${bar} ${line.trim().replaceAll(/\s+/g, " ").slice(0, 45)}`;
  return text.slice(0, Math.max(1, columns - 1));
}
