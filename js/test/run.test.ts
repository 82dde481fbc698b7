// `streamRun` and `resumeRun`: what is remembered, and what is not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { resumeRun, streamChat, streamRun, type Run, type RunOptions } from "../src/index.ts";

const NAME = "newswire:run:chat";

function place() {
  const kept = new Map<string, string>();
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  };
  return { kept, storage };
}

/** Options of a run whose requests never come back, and the requests. */
function lost(storage: RunOptions["storage"]) {
  const sent: RequestInit[] = [];
  const options = {
    storage,
    idempotent: true,
    fetch: (_: unknown, init: RequestInit) => (sent.push(init), new Promise<Response>(() => {})),
  };
  return { sent, options: options as unknown as RunOptions };
}

/** Options of a run that is answered and does not end, and the requests. */
function answered() {
  const sent: string[] = [];
  const headers = { "content-type": "text/event-stream", "content-location": "/runs/7?token=a" };
  const body = () => new ReadableStream({ start: (stream) => stream.enqueue(new TextEncoder().encode("id: 1\ndata: a\n\n")) });
  const answer = async (url: unknown, { method }: RequestInit) => (sent.push(`${method} ${url}`), new Response(body(), { headers }));
  return { sent, fetch: answer as typeof fetch };
}

/** One turn of the event loop: the request is out then. */
const turn = () => new Promise((go) => setTimeout(go));

test("a POST without an answer is sent again with its body and its key", async () => {
  for (const body of [{ question: "why?" }, "why?", ["why?"], undefined]) {
    const { storage } = place();
    const { sent, options } = lost(storage);
    const run = streamRun("http://localhost/answers", { ...options, body, method: "POST", remember: "chat" });
    await turn();
    run.close();
    resumeRun("chat", options)!.close();
    const again = resumeRun("chat", options)!;
    await turn();
    again.close();
    const [first, second] = [sent[0]!, sent.at(-1)!];
    assert.deepEqual([second.method, second.body], ["POST", first.body]);
    assert.equal(new Headers(second.headers).get("idempotency-key"), new Headers(first.headers).get("idempotency-key"));
  }
});

test("a POST that was refused has started nothing, and is remembered only if a login may help", async () => {
  for (const [status, remembered] of [[400, false], [422, false], [401, true]] as const) {
    const { kept, storage } = place();
    const fetch = async () => new Response("no", { status });
    const run = streamRun("http://localhost/answers", { storage, fetch, body: "why?", remember: "chat", idempotent: true });
    await assert.rejects(run.done, { status });
    assert.equal(kept.has(NAME), remembered);
  }
});

test("a tool that fails is no end of an answer, and each format's own error is one", async () => {
  const chat = (...parts: unknown[]) => {
    const text = parts.map((part) => `data: ${typeof part === "string" ? part : JSON.stringify(part)}\n\n`).join("");
    const fetch = async () => new Response(text, { headers: { "content-type": "text/event-stream" } });
    const run = streamChat("http://localhost/chat", { fetch, body: {}, reconnect: false });
    return run.done.then(({ reason, error }) => [run.text, reason, error?.message]);
  };
  const before = { type: "text-delta", id: "1", delta: "a" };
  for (const part of [{ type: "tool-output-error", toolCallId: "1", errorText: "no" }, { type: "data-error", data: 1 }]) {
    assert.deepEqual(await chat(before, part, { type: "text-delta", id: "1", delta: "b" }, "[DONE]"), ["ab", "done", undefined]);
  }
  for (const part of [
    { type: "error", errorText: "why" },
    { type: "error", error: { type: "overloaded_error", message: "why" } },
    { type: "error", code: "x", message: "why" },
    { type: "response.failed", response: { error: { message: "why" } } },
    { type: "RUN_ERROR", message: "why" },
    { error: { message: "why" } },
  ]) {
    assert.deepEqual(await chat(before, part), ["a", "failed", "why"]);
  }
  assert.deepEqual(await chat({ type: "TEXT_MESSAGE_CHUNK", messageId: "1", delta: "a" }, { type: "RUN_FINISHED" }), ["a", "done", undefined]);
});

test("a refusal is text, and of several answers the first is shown", async () => {
  const read = async (...parts: unknown[]) => {
    const text = [...parts.map((part) => JSON.stringify(part)), "[DONE]"].map((data) => `data: ${data}\n\n`).join("");
    const fetch = async () => new Response(text, { headers: { "content-type": "text/event-stream" } });
    const run = streamChat("http://localhost/chat", { fetch, body: {} });
    await run.done;
    return run.text;
  };
  const chunk = (index: number, delta: unknown) => ({ choices: [{ index, delta }] });
  assert.equal(await read(chunk(0, { content: "a" }), chunk(1, { content: "x" }), chunk(0, { content: "b" }), { choices: [] }), "ab");
  assert.equal(await read(chunk(0, { role: "assistant", content: "", refusal: null }), chunk(0, { refusal: "I can't." })), "I can't.");
  assert.equal(await read({ type: "response.refusal.delta", delta: "I can't." }), "I can't.");
});

test("a body that JSON can't hold is not remembered as another one", async () => {
  for (const body of [new FormData(), new URLSearchParams("a=b"), new Blob(["x"]), new Uint8Array(2), new ArrayBuffer(2)]) {
    const { kept, storage } = place();
    kept.set(NAME, JSON.stringify({ url: "http://localhost/answers/old" }));
    const { sent, options } = lost(storage);
    const run = streamRun("http://localhost/answers", { ...options, body, remember: "chat" });
    await turn();
    run.close();
    assert.equal(sent[0]!.body, body);
    assert.equal(resumeRun("chat", options), null);
  }
});

test("a run that can't be asked for takes the place of none", () => {
  const { kept, storage } = place();
  const before = JSON.stringify({ url: "http://localhost/answers/old" });
  kept.set(NAME, before);
  const circle: { own?: unknown } = {};
  circle.own = circle;
  assert.throws(() => streamRun("http://localhost/answers", { body: circle, remember: "chat", storage }), TypeError);
  assert.equal(kept.get(NAME), before);
});

test("a run whose reading is left is remembered, however it is left", async () => {
  const leave = [
    (run: Run) => turn().then(run.close),
    async (run: Run) => { for await (const _ of run) break; },
    (_: Run, controller: AbortController) => turn().then(() => controller.abort()),
  ];
  for (const one of leave) {
    const { kept, storage } = place();
    const controller = new AbortController();
    const { signal } = controller;
    const run = streamRun("http://localhost/answers", { ...answered(), body: {}, remember: "chat", storage, signal });
    await one(run, controller);
    assert.deepEqual(await run.done, { reason: "closed" });
    assert.equal(JSON.parse(kept.get(NAME)!).url, "http://localhost/runs/7?token=a");
  }
});

test("a stop is sent below the run's address, which may have a query", async () => {
  for (const idempotent of [true, false]) {
    const { sent, ...options } = answered();
    const run = streamRun("http://localhost/answers", { ...options, body: {}, idempotent });
    await turn();
    await run.stop();
    run.close();
    assert.deepEqual(sent, ["POST http://localhost/answers", "POST http://localhost/runs/7/stop?token=a"]);
  }
});

test("a stop before the POST is answered waits for the run's address, and is not forgotten", async () => {
  const { sent, fetch } = answered();
  let answer: (() => void) | undefined;
  const asked = new Promise<void>((go) => (answer = go));
  const late = async (...given: Parameters<typeof fetch>) => (await asked, fetch(...given));
  const run = streamRun("http://localhost/answers", { fetch: late, body: {} });
  await turn();
  const stopped = run.stop();
  answer!();
  await stopped;
  run.close();
  assert.deepEqual(sent, ["POST http://localhost/answers", "POST http://localhost/runs/7/stop?token=a"]);
});

test("a run without an address is stopped by its end, and not remembered", async () => {
  const { kept, storage } = place();
  const body = () => new ReadableStream({ start: (stream) => stream.enqueue(new TextEncoder().encode(":\n")) });
  const fetch = async () => new Response(body(), { headers: { "content-type": "text/event-stream" } });
  const run = streamRun("http://localhost/answers", { fetch, body: {}, remember: "chat", storage });
  await run.stop();
  assert.deepEqual([await run.done, kept.size], [{ reason: "closed" }, 0]);
});

test("storage that is full, forbidden or spoilt stops no run", async (context) => {
  const warned = context.mock.method(console, "warn", () => {});
  const { kept, storage } = place();
  kept.set(NAME, "no JSON");
  const full = { ...storage, setItem: () => { throw new DOMException("full", "QuotaExceededError"); } };
  const { sent, options } = lost(full);
  assert.equal(resumeRun("chat", options), null);
  const run = streamRun("http://localhost/answers", { ...options, body: {}, remember: "chat" });
  await turn();
  run.close();
  assert.deepEqual([sent.length, kept.size, warned.mock.callCount()], [1, 0, 1]);
  const forbidden = lost(undefined); // node has no sessionStorage, and a browser may refuse it
  assert.equal(resumeRun("chat", forbidden.options), null);
  streamRun("http://localhost/answers", { ...forbidden.options, body: {}, remember: "chat" }).close();
});
