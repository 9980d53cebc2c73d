import { expect, test } from "bun:test";
import { Hono } from "hono";
import { call } from "../support/hub-call.ts";
import { HubFixture } from "../support/hub-fixture.ts";

const page = ({ signedIn }: { signedIn: (request: Request) => boolean }) =>
  new Hono().get("/", (c) => (signedIn(c.req.raw) ? c.text("hello") : c.text("sign in", 401)));

test("the page that was given is served at / and learns whether a session asks", async () => {
  await using fixture = await HubFixture.start({ page });
  expect(await call(fixture.url, { path: "/" })).toMatchObject({ status: 401, text: "sign in" });
  const cookie = await fixture.session();
  expect(await call(fixture.url, { path: "/", cookie })).toMatchObject({
    status: 200,
    text: "hello",
  });
  const rebound = await call(fixture.url, { path: "/", cookie, headers: { host: "evil.example" } });
  expect(rebound).toMatchObject({ status: 421, body: { code: "misdirected_request" } });
  expect(await call(fixture.url, { path: "/nowhere", cookie })).toMatchObject({
    status: 404,
    body: { code: "not_found" },
  });
});

test("a browser with a used-up code sees a page, a program a problem document", async () => {
  await using fixture = await HubFixture.start({ signInFailedPage: () => "<p>used up</p>" });
  const path = "/sign-in?code=none";
  const browser = await call(fixture.url, { path, headers: { accept: "text/html,*/*" } });
  expect(browser).toMatchObject({ status: 401, text: "<p>used up</p>" });
  expect(browser.headers.get("content-type")).toStartWith("text/html");
  const program = await call(fixture.url, { path });
  expect(program).toMatchObject({ status: 401, body: { code: "sign_in_code_invalid" } });
});

test("a look at a sign-in link by HEAD leaves its code for the one who opens it", async () => {
  await using fixture = await HubFixture.start();
  const path = `/sign-in?code=${fixture.hub.loginCode("ada")}`;
  const look = await call(fixture.url, { method: "HEAD", path });
  expect(look.status).toBe(303);
  expect(look.headers.get("set-cookie")).toBeNull();
  const opened = await call(fixture.url, { path });
  expect(opened.status).toBe(303);
  expect(opened.headers.get("set-cookie")).toContain("HttpOnly");
});
