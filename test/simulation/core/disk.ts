import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import type { Db, SqlRow } from "../../../src/storage/open-db.ts";
import type { Program } from "./world.ts";

type Tables = ReadonlyMap<string, readonly SqlRow[]>;

/** When a program dies at its own write: how many commits it still makes, and on which side of one. */
export interface DeathAtCommit {
  left: number;
  readonly side: "before" | "after";
}

/**
 * A disk with one SQLite file, which outlives the program that has it open: what was committed
 * stays, what was not is rolled back, as SQLite would after a crash. It lives in memory and is
 * wiped for each seed, its prepared statements with their plans kept.
 */
export class Disk {
  readonly #db = new DatabaseSync(":memory:");
  readonly #statements = new Map<string, StatementSync>();
  readonly #done = new Set<string>();
  #tables: string[] | undefined;
  #inside = false;
  death: DeathAtCommit | undefined;
  commits = 0;

  /** For checks, and for faults: the file itself. */
  get(sql: string, ...args: SQLInputValue[]): SqlRow | undefined {
    return this.#prepared(sql).get(...args);
  }

  all(sql: string, ...args: SQLInputValue[]): SqlRow[] {
    return this.#prepared(sql).all(...args);
  }

  /** @param kill - Ends the program that has the file open. */
  open(program: Program, kill: () => void): Db {
    let closed = false;
    const check = () => {
      if (closed || !program.alive) throw new Error("the file is not open any more");
    };
    const commit = <T>(write: () => T): T => {
      check();
      if (this.death === undefined || this.death.left > 0) {
        if (this.death !== undefined) this.death.left -= 1;
        this.commits += 1;
        return write();
      }
      const { side } = this.death;
      this.death = undefined;
      const result = side === "after" ? write() : undefined;
      kill();
      if (result !== undefined) return result;
      throw new Error("the program died at this write");
    };
    return {
      exec: (sql) => {
        check();
        this.#exec(sql);
      },
      prepare: (sql) => {
        check();
        const statement = this.#prepared(sql);
        return {
          run: (...args) => {
            const write = () => ({ changes: Number(statement.run(...args).changes) });
            if (!this.#inside) return commit(write);
            check();
            return write();
          },
          get: (...args) => {
            check();
            return statement.get(...args);
          },
          all: (...args) => {
            check();
            return statement.all(...args);
          },
        };
      },
      transaction: (work) => (this.#inside ? work() : commit(() => this.#transaction(work))),
      close: () => {
        closed = true;
      },
    };
  }

  #exec(sql: string): void {
    if (this.#done.has(sql)) return;
    this.#db.exec(sql);
    if (!sql.includes("CREATE TABLE")) return;
    this.#done.add(sql);
    this.#tables = undefined;
  }

  #transaction<T>(work: () => T): T {
    this.#prepared("BEGIN").run();
    this.#inside = true;
    try {
      const result = work();
      this.#prepared("COMMIT").run();
      return result;
    } catch (error) {
      this.#prepared("ROLLBACK").run();
      throw error;
    } finally {
      this.#inside = false;
    }
  }

  /** Everything in a table; nothing where it was not made yet. */
  rows(table: string): SqlRow[] {
    return this.#names().includes(table) ? this.all(`SELECT * FROM ${table}`) : [];
  }

  run(sql: string, ...args: SQLInputValue[]): void {
    this.#prepared(sql).run(...args);
  }

  wipe(): void {
    this.death = undefined;
    this.commits = 0;
    for (const table of this.#names()) this.#prepared(`DELETE FROM ${table}`).run();
  }

  /** A backup: everything committed so far. */
  backup(): Tables {
    return new Map(this.#names().map((table) => [table, this.rows(table)]));
  }

  restore(backup: Tables): void {
    this.wipe();
    for (const [table, rows] of backup) {
      for (const row of rows) {
        const names = Object.keys(row);
        const sql = `INSERT INTO ${table} (${names.join()}) VALUES (${names.map(() => "?").join()})`;
        this.#prepared(sql).run(...Object.values(row));
      }
    }
  }

  #names(): string[] {
    this.#tables ??= this.#db
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
      .all()
      .map((row) => String(row["name"]));
    return this.#tables;
  }

  #prepared(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#db.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}
