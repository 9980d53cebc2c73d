import { openJournal } from "../../../src/daemon/journal.ts";

// Appends for ever and says what it was promised: one line per call that returned.
const [path = "", batch = "1"] = process.argv.slice(2);
const journal = openJournal({ path });
journal.createRun({ runId: "run-1", attempt: 1, harness: "shell", prompt: "true" });
for (;;) {
  const drafts = Array.from({ length: Number(batch) }, (_, i) => ({
    type: "tool.output.delta",
    payload: { content: `line ${i}` },
  }));
  const last = journal.append("run-1", 1, drafts).at(-1)?.seq;
  process.stdout.write(`${last}\n`);
  await new Promise((resolve) => setImmediate(resolve));
}
