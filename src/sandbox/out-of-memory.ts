import { DecoError } from "../protocol/errors.ts";

/** The kernel ended something inside for lack of memory. @param limitMib 0 where none is known */
export function outOfMemory(when: string, limitMib: number): DecoError {
  const limit = limitMib > 0 ? ` (its limit is ${limitMib} MiB)` : "";
  const more = limitMib > 0 ? `, such as ${2 * limitMib}` : "";
  return new DecoError("out_of_memory", `the sandbox ran out of memory${limit} ${when}`, {
    fix: `Give it more: sandbox.resources.memoryMib${more}, or \`resources\` of its template.`,
    extensions: { limitMib },
  });
}
