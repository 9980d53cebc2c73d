import { describe, expect, test } from "bun:test";
import { normalizeSandboxMap, setSandboxEntry } from "../../src/protocol/sandbox-map.ts";

const entry = { handle: "box-1", linkId: "lnk_1", previewUrl: "http://x/" };

describe("reading a sandbox map", () => {
  test("takes the new form as it is, with further members", () => {
    const map = { ann: { main: { docker: { ...entry, extra: [1] }, process: entry } } };
    expect(normalizeSandboxMap(map)).toEqual(map);
  });

  test("wraps the old two-level form under its kind", () => {
    const old = { ann: { main: { vmId: "vm-1", previewUrl: "http://x/", runnerKind: "process" } } };
    expect(normalizeSandboxMap(old)).toMatchObject({
      ann: {
        main: {
          process: { handle: "vm-1", previewUrl: "http://x/", sandboxProviderKind: "process" },
        },
      },
    });
    expect(JSON.stringify(normalizeSandboxMap(old))).not.toContain("runnerKind");
  });

  test("takes unknown old kinds, and none at all, for docker", () => {
    for (const runnerKind of ["freestyle", undefined, 7, "__proto__"]) {
      const map = normalizeSandboxMap({ ann: { main: { vmId: "vm-1", runnerKind } } });
      expect(Object.keys(map["ann"]?.["main"] ?? {})).toEqual(["docker"]);
    }
    const both = { freestyle: { handle: "old" }, docker: { handle: "new" } };
    expect(normalizeSandboxMap({ ann: { main: both } })["ann"]?.["main"]?.docker?.handle).toBe(
      "new",
    );
  });

  test("is {} for what is no object", () => {
    for (const value of [undefined, null, 1, "x", true, [], [{}], () => 1, Symbol("s")]) {
      expect(normalizeSandboxMap(value)).toEqual({});
    }
  });

  test("keeps empty objects as objects", () => {
    expect(normalizeSandboxMap({ ann: {} })).toEqual({ ann: {} });
    expect(normalizeSandboxMap({ ann: { main: {} } })).toEqual({ ann: { main: {} } });
  });

  test("skips what is malformed and keeps the rest", () => {
    const map = {
      ann: { main: { docker: entry, process: null, virtualbox: { handle: 7 } }, bad: 3, worse: [] },
      bob: "x",
    };
    expect(normalizeSandboxMap(map)).toEqual({ ann: { main: { docker: entry } } });
  });

  test("is not led astray by __proto__, constructor or throwing getters", () => {
    const evil: unknown = JSON.parse(
      `{"__proto__":{"main":{"docker":{"handle":"x"}}},"constructor":{"main":{"docker":{"handle":"y","__proto__":{"polluted":1}}}},
       "ann":{"__proto__":{"docker":{"handle":"z"}},"main":{"__proto__":{"handle":"w"}}}}`,
    );
    const map = normalizeSandboxMap(evil);
    expect(Object.keys(map)).toEqual(["constructor", "ann"]);
    expect(Object.getPrototypeOf(map)).toBe(Object.prototype);
    expect("polluted" in (map["constructor"]?.["main"]?.docker ?? {})).toBe(false);
    expect(map["ann"]).toEqual({ main: {} });
    expect("polluted" in {}).toBe(false);
    const trap = Object.defineProperty({}, "ann", {
      enumerable: true,
      get: () => {
        throw new Error("trap");
      },
    });
    expect(normalizeSandboxMap(trap)).toEqual({});
  });

  test("never throws, gives only entries with handles, and reads its own result as it is", () => {
    let state = 7;
    const random = (below: number) => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      return state % below;
    };
    const names = [
      "ann",
      "main",
      "docker",
      "process",
      "vmId",
      "handle",
      "runnerKind",
      "__proto__",
      "x",
    ];
    const leaves = [null, undefined, 0, "", "s", "docker", true, [], Number.NaN];
    const garbage = (depth: number): unknown => {
      if (depth === 0 || random(4) === 0) return leaves[random(leaves.length)];
      const pairs = Array.from({ length: random(5) }, () => [
        names[random(names.length)],
        garbage(depth - 1),
      ]);
      return Object.fromEntries(pairs) as unknown;
    };
    for (let round = 0; round < 5000; round++) {
      const map = normalizeSandboxMap(garbage(5));
      for (const kinds of Object.values(map).flatMap((branches) => Object.values(branches))) {
        for (const [kind, found] of Object.entries(kinds)) {
          expect(["docker", "virtualbox", "process"]).toContain(kind);
          expect(found.handle).toBeString();
        }
      }
      expect(normalizeSandboxMap(map)).toEqual(map);
    }
  });
});

describe("writing a sandbox map", () => {
  test("adds beside what is there and leaves the old map alone", () => {
    const map = { ann: { main: { docker: entry } } };
    const next = setSandboxEntry(map, { user: "ann", branch: "main", provider: "process", entry });
    expect(next).toEqual({ ann: { main: { docker: entry, process: entry } } });
    expect(map).toEqual({ ann: { main: { docker: entry } } });
  });

  test("emits only the new form", () => {
    const old = normalizeSandboxMap({ ann: { main: { vmId: "vm-1", runnerKind: "docker" } } });
    const next = setSandboxEntry(old, { user: "bob", branch: "b", provider: "docker", entry });
    expect(JSON.stringify(next)).not.toMatch(/vmId|runnerKind/);
    expect(next["ann"]?.["main"]?.docker?.handle).toBe("vm-1");
  });

  test("is harmless with names such as constructor and __proto__", () => {
    const one = setSandboxEntry(
      {},
      { user: "constructor", branch: "b", provider: "docker", entry },
    );
    expect(one["constructor"]).toEqual({ b: { docker: entry } });
    const two = setSandboxEntry({}, { user: "__proto__", branch: "b", provider: "docker", entry });
    expect(Object.keys(two)).toEqual([]);
    expect("b" in {}).toBe(false);
  });
});
