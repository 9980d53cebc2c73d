import type { PropsWithChildren } from "hono/jsx";

/** The page on which runs are started and watched. */
export function MainPage() {
  return (
    <Shell title="deco link" page="main">
      <section aria-labelledby="link-title">
        <h2 id="link-title">Link</h2>
        <p id="link-state" role="status">
          asking the hub …
        </p>
        <ul id="capabilities" />
        <div id="connect" hidden>
          <p>No laptop is connected. Connect one with:</p>
          <pre id="connect-command" />
        </div>
      </section>
      <section aria-labelledby="prompt-title">
        <h2 id="prompt-title">New run</h2>
        <form id="prompt-form">
          <label for="harness">Harness</label>
          <select id="harness" name="harness" />
          <p id="harness-reason" class="reason" />
          <label for="prompt">Prompt</label>
          <textarea id="prompt" name="prompt" rows={4} required autocomplete="off" />
          <button id="start" type="submit">
            Run
          </button>
          <p id="form-error" class="error" role="alert" />
        </form>
      </section>
      <section id="run" aria-labelledby="run-title" hidden>
        <h2 id="run-title">Run</h2>
        <p>
          <code id="run-id" /> <strong id="run-status" role="status" />{" "}
          <button id="cancel" type="button" hidden>
            Cancel
          </button>
        </p>
        <p id="run-error" class="error" role="alert" />
        <div id="events" aria-live="polite" />
      </section>
      <section aria-labelledby="recent-title">
        <h2 id="recent-title">Recent runs</h2>
        <ol id="recent" />
      </section>
    </Shell>
  );
}

/** Where a person approves what `deco login` asked for. */
export function DevicePage() {
  return (
    <Shell title="Sign a device in" page="device">
      <section>
        <h2>Sign a device in</h2>
        <p>Approve only a code that a terminal of yours shows right now.</p>
        <form id="device-form">
          <label for="user-code">Code</label>
          <input id="user-code" name="user_code" required autocomplete="off" spellcheck={false} />
          <button id="approve" type="submit" value="approve">
            Approve
          </button>
          <button id="deny" type="submit" value="deny">
            Deny
          </button>
        </form>
        <p id="device-result" role="status" />
      </section>
    </Shell>
  );
}

/** Shown without a session; the code is printed by `deco up` and `deco hub token --login`. */
export function SignInPage({ failed = false }: { readonly failed?: boolean }) {
  return (
    <Shell title="Sign in" page="sign-in">
      <section>
        <h2>Sign in</h2>
        {failed ? (
          <p class="error" role="alert">
            That code is used up, expired or wrong.
          </p>
        ) : null}
        <p>
          Enter a single-use code. <code>deco up</code> prints one; for a new one run{" "}
          <code>deco hub token --login --data DIR</code> with the hub's data directory.
        </p>
        <form method="get" action="/sign-in">
          <label for="code">Code</label>
          <input id="code" name="code" required autocomplete="off" spellcheck={false} />
          <button type="submit">Sign in</button>
        </form>
      </section>
    </Shell>
  );
}

function Shell({ title, page, children }: PropsWithChildren<{ title: string; page: string }>) {
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>{title}</title>
        <link rel="icon" href="data:," />
        <link rel="stylesheet" href="/assets/page.css" />
        <script src="/assets/page.js" type="module" />
      </head>
      <body data-page={page}>
        <header>
          <h1>
            <a href="/">deco link</a>
          </h1>
        </header>
        <main>
          <noscript>This page needs JavaScript.</noscript>
          {children}
        </main>
      </body>
    </html>
  );
}
