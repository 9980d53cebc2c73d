import { runAll } from "../../storage/open-db-suite.ts";

const failures = await runAll();
console.log(JSON.stringify({ node: process.version, failures }));
process.exit(failures.length === 0 ? 0 : 1);
