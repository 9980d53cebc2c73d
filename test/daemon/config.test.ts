import { expect, test } from "bun:test";
import { chmod, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadConfig, SETTINGS } from "../../src/daemon/config.ts";
import { testHome } from "../support/control-home.ts";

test("each setting has a flag, an environment name and a help text of its own", () => {
  const settings = Object.values(SETTINGS);
  for (const { flag, env, help } of settings) {
    expect(flag).toMatch(/^--[a-z-]+( <[a-z]+>)?$/);
    expect(env).toMatch(/^DECO_[A-Z_]+$/);
    expect(help.length).toBeGreaterThan(10);
  }
  expect(new Set(settings.map(({ env }) => env)).size).toBe(settings.length);
  expect(new Set(settings.map(({ flag }) => flag)).size).toBe(settings.length);
});

test("a flag wins over the environment, that over config.json, that over the default", async () => {
  await using home = await testHome();
  const { paths } = home;
  expect(loadConfig({ env: {}, paths }).maxRuns).toBe(4);
  await writeFile(paths.configFile, JSON.stringify({ maxRuns: 5, tunnel: false }));
  expect(loadConfig({ env: {}, paths })).toMatchObject({ maxRuns: 5, tunnel: false });
  const env = { DECO_MAX_RUNS: "6", DECO_TUNNEL: "true", DECO_NAME: "" };
  expect(loadConfig({ env, paths })).toMatchObject({ maxRuns: 6, tunnel: true });
  expect(loadConfig({ env, paths, flags: { maxRuns: "7" } }).maxRuns).toBe(7);
});

test.each([
  ["a flag", { flags: { port: "70000" } }, "--port"],
  ["a variable", { env: { DECO_HUB: "ftp://x" } }, "DECO_HUB"],
  ["a variable of choices", { env: { DECO_LOCAL_SANDBOX_PROVIDER: "podman" } }, "DECO_LOCAL"],
])("a wrong value of %s is a usage error that names it", async (_what, options, named) => {
  await using home = await testHome();
  const load = () => loadConfig({ env: {}, paths: home.paths, ...options });
  expect(load).toThrow(expect.objectContaining({ code: "usage" }));
  expect(load).toThrow(named);
});

test.each([
  ["no JSON", "{", "is not JSON"],
  ["no object", "[]", "is not a JSON object"],
  ["an unknown setting", '{"maxRun":1}', "maxRun"],
  ["a wrong value", '{"maxRuns":"many"}', "config.json: maxRuns"],
  ["an unknown model setting", '{"model":{"anthropic":{"key":"k"}}}', "model"],
])("config.json with %s fails with the reason before anything starts", async (_w, text, named) => {
  await using home = await testHome();
  await writeFile(home.paths.configFile, text);
  const load = () => loadConfig({ env: {}, paths: home.paths });
  expect(load).toThrow(expect.objectContaining({ code: "usage" }));
  expect(load).toThrow(named);
});

test("a config.json that can't be looked at, as in another user's home, is named with a fix", async () => {
  await using home = await testHome();
  const { paths } = home;
  await symlink(paths.configFile, paths.configFile);
  expect(() => loadConfig({ env: {}, paths })).toThrow(
    expect.objectContaining({ code: "usage", fix: expect.stringContaining(paths.configFile) }),
  );
});

test("models come from the environment, else from config.json, else not at all", async () => {
  await using home = await testHome();
  const { paths } = home;
  expect(loadConfig({ env: {}, paths }).models).toEqual({});
  const keyFile = join(home.dir, "key");
  await writeFile(keyFile, "sk-file\n", { mode: 0o600 });
  const file = { model: { anthropic: { baseUrl: "http://127.0.0.1:9/", apiKeyFile: keyFile } } };
  await writeFile(paths.configFile, JSON.stringify(file));
  const fromFile = { baseUrl: "http://127.0.0.1:9/", apiKey: "sk-file" };
  expect(loadConfig({ env: {}, paths }).models).toEqual({ anthropic: fromFile });
  const env = { ANTHROPIC_API_KEY: "sk-env", OPENAI_API_KEY: "sk-o" };
  expect(loadConfig({ env, paths }).models).toEqual({
    anthropic: { baseUrl: "http://127.0.0.1:9/", apiKey: "sk-env" },
    openai: { baseUrl: "https://api.openai.com/v1", apiKey: "sk-o" },
  });
});

test("a bearer token for Anthropic is sent as one", async () => {
  await using home = await testHome();
  const env = { ANTHROPIC_AUTH_TOKEN: "tok" };
  expect(loadConfig({ env, paths: home.paths }).models.anthropic).toEqual({
    baseUrl: "https://api.anthropic.com",
    apiKey: "tok",
    authHeader: "authorization",
  });
});

test("a key that others may read is refused, in a key file and in config.json", async () => {
  await using home = await testHome();
  const { paths } = home;
  const keyFile = join(home.dir, "key");
  await writeFile(keyFile, "sk");
  await chmod(keyFile, 0o644);
  await writeFile(paths.configFile, JSON.stringify({ model: { openai: { apiKeyFile: keyFile } } }));
  expect(() => loadConfig({ env: {}, paths })).toThrow("may be read by others");
  await writeFile(paths.configFile, JSON.stringify({ model: { openai: { apiKey: "sk" } } }));
  await chmod(paths.configFile, 0o644);
  expect(() => loadConfig({ env: {}, paths })).toThrow("may be read by others");
});

test("a key file that is missing is named", async () => {
  await using home = await testHome();
  const file = { model: { openai: { apiKeyFile: "/nowhere/key" } } };
  await writeFile(home.paths.configFile, JSON.stringify(file));
  expect(() => loadConfig({ env: {}, paths: home.paths })).toThrow("/nowhere/key");
});
