// `connect` against a scripted server: one that answers the n-th request by the n-th function.
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { once } from "node:events";
import { after, test } from "node:test";
import { connect, SourceError, type Connection, type ConnectOptions, type Presence } from "../src/index.ts";

type Answer = (answer: ServerResponse, request: IncomingMessage, body: string) => void;

const FAST = { retry: 10, first: 10, cap: 40 };
const closing: (() => void)[] = [];
after(() => closing.forEach((close) => close()));

async function serve(...answers: Answer[]) {
  const requests: (IncomingMessage & { text: string; at: number })[] = [];
  const server = createServer(async (request, answer) => {
    let text = "";
    for await (const part of request) text += part;
    const number = requests.push(Object.assign(request, { text, at: Date.now() })) - 1;
    answers[Math.min(number, answers.length - 1)]!(answer, request, text);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closing.push(() => (server.closeAllConnections(), server.close()));
  const { port } = server.address() as { port: number };
  return { url: `http://127.0.0.1:${port}/events`, requests };
}

const stream = (text: string, more: Record<string, string> = {}, end = true): Answer => (answer) => {
  answer.writeHead(200, { "content-type": "text/event-stream", ...more });
  if (end) answer.end(text);
  else answer.write(text);
};
const open = (text = ":\n", more = {}) => stream(text, more, false);
const status = (code: number, headers = {}, body = ""): Answer => (answer) => answer.writeHead(code, headers).end(body);

/** Connects, and resolves once `until` is true of what came. */
function reading(url: string, options: ConnectOptions, until: (found: ReturnType<typeof note>) => boolean) {
  const found = note(url, options);
  return new Promise<typeof found>((done) => {
    const timer = setInterval(() => {
      if (!until(found)) return;
      clearInterval(timer);
      found.source.close();
      done(found);
    }, 5);
  });
}

function note(url: string, options: ConnectOptions) {
  const events: [string, unknown, string][] = [];
  const errors: [SourceError, number | null][] = [];
  const told: unknown[] = [];
  const source = connect(url, {
    backoff: FAST,
    onError: (error, wait) => errors.push([error as SourceError, wait]),
    onGap: (gap) => told.push(["gap", gap]),
    onGoodbye: (goodbye) => told.push(["goodbye", goodbye]),
    onEnd: (end) => told.push(["end", end]),
    onCaughtUp: () => told.push(["live"]),
    ...options,
  });
  source.on("*", ({ event, data, id }) => events.push([event, data, id]));
  return { source, events, errors, told };
}

test("headers are asked for before each attempt, and a plain body is sent as JSON", async () => {
  const { url, requests } = await serve(status(503), open("data: x\n\n"));
  let calls = 0;
  const headers = async () => ({ authorization: `token ${++calls}`, "x-none": undefined });
  await reading(url, { headers, body: { a: 1 }, method: "QUERY", idempotent: true }, ({ events }) => events.length > 0);
  assert.deepEqual(requests.map((one) => [one.method, one.headers.authorization, one.text]), [
    ["QUERY", "token 1", '{"a":1}'],
    ["QUERY", "token 2", '{"a":1}'],
  ]);
  assert.equal(requests[0]!.headers["content-type"], "application/json");
  assert.equal(requests[0]!.headers.accept, "text/event-stream");
});

test("a header function that fails is an attempt that fails", async () => {
  const { url } = await serve(open("data: x\n\n"));
  let calls = 0;
  const headers = () => {
    if (!calls++) throw new Error("no token now");
    return {};
  };
  const { errors } = await reading(url, { headers }, ({ events }) => events.length > 0);
  assert.match(errors[0]![0].message, /no token now/);
});

test("after a 401 the header function is asked once more, behind onError, and a POST goes out again", async () => {
  for (const body of [undefined, "x"]) {
    const { url, requests } = await serve(status(401), stream('data: x\n\nevent: newswire.end\ndata: {"reason":"done"}\n\n'));
    let token = "old";
    const heard: unknown[] = [];
    const onError = (error: Error, wait: number | null) => {
      heard.push([(error as SourceError).status, wait != null]);
      token = "new";
    };
    const { closed } = connect(url, { headers: () => ({ authorization: token }), body, onError, attempts: 1 });
    assert.deepEqual(await closed, { reason: "done" });
    assert.deepEqual(requests.map((one) => one.headers.authorization), ["old", "new"]);
    assert.deepEqual(heard, [[401, true]]);
  }
});

test("a 401 ends a connection that has nothing new to say, and one whose new token is refused too", async () => {
  let calls = 0;
  const cases: [ConnectOptions["headers"], number][] = [
    [() => ({ authorization: `token ${calls++}` }), 2],
    [async () => ({ authorization: "same" }), 1],
    [{ authorization: "fixed" }, 1],
    [undefined, 1],
  ];
  for (const [headers, expected] of cases) {
    const { url, requests } = await serve(status(401, {}, "who?"));
    await assert.rejects(connect(url, { headers }).closed, { code: "status", status: 401, body: "who?" });
    assert.equal(requests.length, expected);
  }
});

test("each token that was good for a while may expire, and a token that does not come after a 401 is no end", async () => {
  const { url, requests } = await serve(stream("id: 1\ndata: a\n\n"), status(401), open("data: b\n\n"));
  const tokens = ["a", "a", null, "b"];
  const headers = () => {
    const token = tokens.shift();
    if (!token) throw new Error("the identity provider is away");
    return { authorization: token };
  };
  const found = await reading(url, { headers }, ({ events }) => events.length > 1);
  assert.deepEqual(requests.map((one) => [one.headers.authorization, one.headers["last-event-id"]]), [["a", undefined], ["a", "1"], ["b", "1"]]);
  assert.deepEqual(found.errors.map(([error]) => error.code), ["status", "network"]);
});

test("a token that never comes is an attempt that times out, and the next one asks again", async () => {
  const { url, requests } = await serve(open("data: x\n\n"));
  let calls = 0;
  const headers = () => (calls++ ? {} : new Promise<Record<string, string>>(() => {}));
  const { errors } = await reading(url, { headers, timeout: 50 }, ({ events }) => events.length > 0);
  assert.equal(errors[0]![0].code, "timeout");
  assert.equal(requests.length, 1);
});

test("a POST whose token fails was not sent, so it is tried again", async () => {
  const { url, requests } = await serve(open("data: x\n\n"));
  let calls = 0;
  const headers = async () => {
    if (!calls++) throw new Error("no token now");
    return {};
  };
  await reading(url, { headers, body: { a: 1 } }, ({ events }) => events.length > 0);
  assert.deepEqual(requests.map((one) => one.method), ["POST"]);
});

test("a POST goes on with GET at the address of its answer, without a body", async () => {
  const { url, requests } = await serve(
    stream("id: 1\ndata: a\n\n", { "content-location": "/runs/7" }),
    stream("id: 2\ndata: b\n\nevent: newswire.end\ndata: {\"reason\":\"done\"}\n\n"),
  );
  const found = await reading(url, { body: "why?", headers: { "content-type": "text/plain", a: "b" } }, ({ told }) => told.length > 0);
  assert.deepEqual(requests.map((one) => [one.method, one.url, one.text, one.headers["last-event-id"], one.headers.a]), [
    ["POST", "/events", "why?", undefined, "b"],
    ["GET", "/runs/7", "", "1", "b"],
  ]);
  assert.equal(requests[1]!.headers["content-type"], undefined);
  assert.deepEqual(found.told, [["end", { reason: "done" }]]);
  assert.deepEqual(await found.source.closed, { reason: "done" });
});

test("a POST that answers 202 with a Location is read there", async () => {
  const { url, requests } = await serve(status(202, { location: "/runs/8" }, "{}"), open("data: a\n\n"));
  const { source } = await reading(url, { body: "x" }, ({ events }) => events.length > 0);
  assert.deepEqual(requests.map((one) => [one.method, one.url]), [["POST", "/events"], ["GET", "/runs/8"]]);
  assert.equal(source.resumeUrl, url.replace("/events", "/runs/8"));
});

test("a POST that may be sent twice goes on at the address of its answer too", async () => {
  const end = 'event: newswire.end\ndata: {"reason":"done"}\n\n';
  const at = { "content-location": "/runs/7", "content-type": "text/event-stream" };
  const answers = [status(201, at, "data: a\n\n"), status(202, { location: "/runs/7" }, "{}"), stream("data: a\n\n", at)];
  for (const first of answers) {
    const { url, requests } = await serve(status(502), first, stream(end));
    const { source } = await reading(url, { body: "x", idempotent: true }, ({ source }) => source.state === "closed");
    assert.equal(source.error, null);
    assert.equal(source.resumeUrl, url.replace("/events", "/runs/7"));
    assert.deepEqual(requests.map((one) => `${one.method} ${one.url}`), ["POST /events", "POST /events", "GET /runs/7"]);
  }
});

test("a POST that was redirected goes on with its last id where it was answered", async () => {
  const event = (id: number): Answer => stream(`id: ${id}\ndata: a\n\n`);
  const { url, requests } = await serve(status(303, { location: "/runs/7" }), event(1), event(2), open());
  await reading(url, { body: "x" }, () => requests.length > 3);
  assert.deepEqual(requests.map((one) => `${one.method} ${one.url} ${one.headers["last-event-id"] ?? ""}`), [
    "POST /events ",
    "GET /runs/7 ",
    "GET /runs/7 1",
    "GET /runs/7 2",
  ]);
});

test("an address on another host gets no headers of the page's", async () => {
  const other = await serve(open("data: a\n\n"));
  const { url } = await serve(status(202, { location: other.url }));
  await reading(url, { body: "x", headers: { authorization: "secret" } }, ({ events }) => events.length > 0);
  assert.equal(other.requests[0]!.headers.authorization, undefined);
});

test("a POST is never sent again blindly", async () => {
  for (const first of [(answer: ServerResponse) => answer.destroy(), status(502), stream("data: x\n\n")]) {
    const { url, requests } = await serve(first, open());
    const { source } = await reading(url, { body: "x" }, ({ source }) => source.state === "closed");
    assert.equal(requests.length, 1);
    if (first.length === 1 && source.error) assert.ok(["not-resumable", "status"].includes((source.error as SourceError).code));
  }
});

test("a POST is sent again if the server asks for it", async () => {
  const { url, requests } = await serve(status(429, { "retry-after": "0" }), open("data: x\n\n"));
  await reading(url, { body: "x" }, ({ events }) => events.length > 0);
  assert.equal(requests.length, 2);
});

test("waits grow with each failure, and are random", async () => {
  const { url } = await serve(status(500));
  const { errors } = await reading(url, { backoff: { retry: 1, first: 20, cap: 80 } }, ({ errors }) => errors.length > 6);
  errors.forEach(([, wait], n) => assert.ok(wait! <= Math.max(101, 1 + Math.min(80, 20 * 2 ** n)), String(wait)));
});

test("a time that no timer can wait is no loop", async (context) => {
  const due: number[] = [];
  const { setTimeout: later } = globalThis;
  context.mock.method(globalThis, "setTimeout", (call: () => void, ms = 0, ...rest: []) => {
    due.push(ms);
    return later(call, ms, ...rest);
  });
  const { url, requests } = await serve(status(503), open("data: x\n\n"), status(503, { "retry-after": "9999999999" }));
  const options = { timeout: Infinity, inactivity: Infinity, backoff: { ...FAST, longest: Infinity } };
  await reading(url, options, ({ events }) => events.length > 0);
  const { errors } = await reading(url, options, ({ errors }) => errors.length > 0);
  assert.equal(errors[0]![1], 2 ** 31 - 1);
  assert.equal(requests.length, 3);
  assert.ok(Math.max(...due) < 2 ** 31);
});

test("what is no address throws at once, and a page's own address may change", async (context) => {
  assert.throws(() => connect("/events"), TypeError); // node has no page
  assert.throws(() => connect("http://[", { shared: true }), TypeError);
  const asked: string[] = [];
  const page = { baseURI: "http://localhost/first/" };
  Object.assign(globalThis, { document: { ...page, addEventListener() {}, removeEventListener() {} } });
  context.after(() => delete (globalThis as { document?: unknown }).document);
  const answer = async (url: unknown) => (asked.push(String(url)), new Response(null, { status: asked.length > 1 ? 204 : 503 }));
  const source = connect("events", { fetch: answer as typeof fetch, backoff: FAST });
  (globalThis.document as { baseURI: string }).baseURI = "http://localhost/second/";
  await source.closed;
  assert.deepEqual(asked, ["http://localhost/first/events", "http://localhost/first/events"]);
});

test("a Retry-After is obeyed, as seconds and as a date of the server's clock", async () => {
  const date = { date: "Thu, 26 Nov 2026 10:00:00 GMT", "retry-after": "Thu, 26 Nov 2026 10:00:01 GMT" };
  const { url, requests } = await serve(status(503, { "retry-after": "1" }), status(503, date), open("data: x\n\n"));
  await reading(url, {}, ({ events }) => events.length > 0);
  assert.ok(requests[1]!.at - requests[0]!.at >= 990);
  assert.ok(requests[2]!.at - requests[1]!.at >= 990);
});

test("it gives up after `attempts` that brought nothing", async () => {
  const { url, requests } = await serve(status(500));
  const { source } = await reading(url, { attempts: 3 }, ({ source }) => source.state === "closed");
  assert.equal((source.error as SourceError).code, "attempts");
  assert.equal(((source.error as SourceError).cause as SourceError).status, 500);
  assert.equal(requests.length, 3);
});

test("without onError the console has what ends it for good", async (t) => {
  const logged = t.mock.method(console, "error", () => {});
  const { url } = await serve(stream("<h1>Log in</h1>", { "content-type": "text/html" }));
  const source = connect(url);
  await assert.rejects(source.closed);
  assert.deepEqual(logged.mock.calls[0]!.arguments, [source.error]);
  assert.equal(source.error!.message, `${url} answered text/html, no event stream`);
  await assert.rejects(connect(url, { onError() {} }).closed);
  assert.equal(logged.mock.callCount(), 1);
});

test("what ends it for good is a typed error, with the status and the start of the body", async () => {
  const { url } = await serve(status(403, { "content-type": "text/plain", "x-why": "because" }, "no entry"));
  const { source, errors } = await reading(url, {}, ({ source }) => source.state === "closed");
  const error = source.error as SourceError;
  assert.ok(error instanceof SourceError);
  assert.deepEqual([error.code, error.status, error.body, error.headers?.get("x-why")], ["status", 403, "no entry", "because"]);
  assert.deepEqual(errors, [[error, null]]);
  await assert.rejects(source.closed, { status: 403 });
});

test("204 ends it in order", async () => {
  const { url } = await serve(stream("id: 1\ndata: x\n\n"), status(204));
  const { source, errors } = await reading(url, {}, ({ source }) => source.state === "closed");
  assert.deepEqual([source.error, errors], [null, []]);
  assert.equal(await source.closed, null);
});

test("data is JSON where it is some, text where it is none or is said to be", async () => {
  const text = ["{\"a\":1}", "42", "null", "hello", " 42", "{broken", "\"quoted\"", "true"];
  const whole = [...text.map((one) => `data: ${one === " 42" ? " 42" : one}\n\n`), "event: note\ndata: 42\n\n"].join("");
  const { url } = await serve(open(whole));
  const enough = ({ events }: { events: unknown[] }) => events.length >= 9;
  const data = (found: { events: [string, unknown, string][] }) => found.events.map(([, value]) => value);
  const auto = await reading(url, { text: ["note"] as never }, enough);
  assert.deepEqual(data(auto), [{ a: 1 }, 42, null, "hello", " 42", "{broken", "quoted", true, "42"]);
  const none = await reading(url, { json: false }, enough);
  assert.deepEqual(data(none), [...text, "42"]);
  const strict = await reading(url, { json: true, text: ["note"] as never }, ({ events }) => events.length >= 6);
  assert.deepEqual(data(strict), [{ a: 1 }, 42, null, "quoted", true, "42"]);
  assert.deepEqual(strict.errors.map(([error]) => [error.code, error.body]), [["payload", "hello"], ["payload", " 42"], ["payload", "{broken"]]);
});

test("the members of a channel come to a handler, and to no loop", async () => {
  const told = (change: string, more = "") =>
    `event: newswire.presence\ndata: {"channel":"room.1","member":"ada","change":"${change}"${more}}\n\n`;
  const { url } = await serve(open(told("join", ',"state":{"name":"Ada"}') + told("leave") + "data: last\n\n"));
  const source = connect<{ "newswire.presence": Presence; message: string }>(url, { backoff: FAST });
  const found: unknown[] = [];
  source.on("newswire.presence", ({ data: { member, change, state } }) => found.push([member, change, state]));
  for await (const event of source) {
    assert.equal(event.data, "last");
    break;
  }
  assert.deepEqual(found, [
    ["ada", "join", { name: "Ada" }],
    ["ada", "leave", undefined],
  ]);
});

test("newswire's own events are told apart, and a goodbye is followed by another attempt", async () => {
  const gap = 'event: newswire.gap\nid: e-5\ndata: {"reason":"expired","through":"e-5"}\n\n';
  const rest = "event: newswire.live\ndata: \n\nretry: 30\nevent: newswire.goodbye\ndata: {\"retry\":30}\n\n";
  const { url, requests } = await serve(open(gap + rest), open('event: newswire.end\ndata: {"reason":"done"}\n\n'));
  const { events, told, source } = await reading(url, {}, ({ source }) => source.state === "closed");
  assert.deepEqual(events, []);
  assert.deepEqual(told, [
    ["gap", { reason: "expired", through: "e-5", id: "e-5" }],
    ["live"],
    ["goodbye", { retry: 30 }],
    ["end", { reason: "done" }],
  ]);
  assert.equal(requests[1]!.headers["last-event-id"], "e-5");
  assert.deepEqual(source.end, { reason: "done" });
});

test("a loop gets every event, throws what ends it, and closes the connection when it is left", async () => {
  const { url } = await serve(stream("id: 1\ndata: 1\n\ndata: 2\n\n"), status(404));
  const got: unknown[] = [];
  await assert.rejects(async () => {
    for await (const event of connect(url, { backoff: FAST })) got.push(event.data);
  }, { code: "status", status: 404 });
  assert.deepEqual(got, [1, 2]);
  const endless = await serve(open("data: 1\n\ndata: 2\n\n"));
  const source = connect(endless.url);
  for await (const event of source) if (event.data === 1) break;
  assert.equal(source.state, "closed");
});

test("a loop that is left ends at once, whatever waits for it", async () => {
  const leave = [
    async (source: Connection) => void source[Symbol.asyncIterator]().return!(), // before its first event
    async (source: Connection) => {
      const loop = source[Symbol.asyncIterator]();
      const waiting = loop.next();
      await loop.return!();
      assert.equal((await waiting).done, true);
    },
    async (source: Connection) => {
      const loop = source[Symbol.asyncIterator]();
      void loop.next();
      await assert.rejects(loop.throw!(new Error("no more")), /no more/);
    },
    async (source: Connection) => {
      const reader = ReadableStream.from(source).getReader();
      void reader.read();
      await reader.cancel();
    },
  ];
  for (const one of leave) {
    const source = connect("http://localhost/", { fetch: () => new Promise(() => {}) }); // nothing ever comes
    await one(source);
    assert.equal(source.state, "closed");
  }
});

test("what no request can carry throws at once", () => {
  const circle: { own?: unknown } = {};
  circle.own = circle;
  const bad: ConnectOptions[] = [
    { headers: { "x-name": "a\nb" } },
    { headers: { "x-name": "Łódź" } },
    { headers: { "x name": "a" } },
    { method: "GET", body: {} },
    { method: "G T" },
    { body: circle },
  ];
  for (const options of bad) assert.throws(() => connect("http://localhost/", options), TypeError);
  assert.throws(() => connect("http://user:password@localhost/"), TypeError); // as `fetch`
});

test("an id that is too long for a header is not sent", async () => {
  const ids = ["x".repeat(4096), "x".repeat(4097), "x".repeat(300_000)];
  const { url, requests } = await serve(...ids.map((id) => stream(`id: ${id}\ndata: 1\n\n`)), open());
  await reading(url, {}, () => requests.length === 4);
  assert.deepEqual(requests.map((one) => one.headers["last-event-id"]?.length), [undefined, 4096, undefined, undefined]);
});

test("a success that is no stream's is told by its status", async () => {
  const { url } = await serve(status(206, { "content-type": "text/event-stream" }));
  await assert.rejects(connect(url).closed, { code: "status", status: 206 });
});

test("a loop that is slow makes the server wait", async () => {
  let sent = 0;
  const { url } = await serve((answer) => {
    answer.writeHead(200, { "content-type": "text/event-stream" });
    const line = `data: ${"x".repeat(2000)}\n\n`;
    const more = () => {
      while (!answer.destroyed && sent < 100_000) if ((sent++, !answer.write(line))) return void answer.once("drain", more);
    };
    more();
  });
  const source = connect(url);
  const loop = source[Symbol.asyncIterator]();
  await loop.next();
  let before = -1;
  while (before !== sent) {
    before = sent;
    await new Promise((go) => setTimeout(go, 300));
  }
  assert.ok(sent < 50_000, `${sent} events were taken though nobody wanted them`);
  for (let n = 0; n < 20_000; n++) await loop.next();
  assert.ok(sent > 20_000);
  source.close();
});

test("the slowest of several loops makes the server wait", async () => {
  let sent = 0;
  const line = new TextEncoder().encode("data: x\n\n".repeat(10));
  const body = new ReadableStream({ pull: (controller) => (sent += 10, controller.enqueue(line)) }, { highWaterMark: 0 });
  const head = { headers: { "content-type": "text/event-stream" } };
  const source = connect("http://localhost/", { fetch: async () => new Response(body, head) });
  const [slow, quick] = [source[Symbol.asyncIterator](), source[Symbol.asyncIterator]()];
  let taken = 0;
  const reading = (async () => { while (!(await quick.next()).done) taken++; })();
  let before = -1;
  while (before !== sent) {
    before = sent;
    await new Promise((go) => setTimeout(go, 100));
    assert.ok(sent < 5000, `${sent} events were taken though one loop wanted none`);
  }
  assert.ok(taken > 1000);
  for (let n = 0; n < 1000; n++) await slow.next();
  while (before === sent) await new Promise((go) => setTimeout(go, 5));
  source.close();
  await reading;
});

test("a handler that throws ends nothing", async () => {
  const { url } = await serve(open("data: 1\n\ndata: 2\n\n"));
  const thrown: string[] = [];
  const later = globalThis.queueMicrotask;
  globalThis.queueMicrotask = (call) =>
    later(() => {
      try {
        call();
      } catch (error) {
        thrown.push((error as Error).message); // where a page would report it
      }
    });
  const source = connect(url);
  const seen: unknown[] = [];
  source.on("message", () => {
    throw new Error("mine");
  });
  const off = source.on("message", (event) => seen.push(event.data));
  while (seen.length < 2) await new Promise((go) => setTimeout(go, 5));
  off();
  source.close();
  globalThis.queueMicrotask = later;
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(thrown, ["mine", "mine"]);
});

test("an AbortSignal closes it, before and after the start", async () => {
  const { url, requests } = await serve(open());
  assert.equal(connect(url, { signal: AbortSignal.abort() }).state, "connecting");
  const controller = new AbortController();
  const states: string[] = [];
  const source = connect(url, { signal: controller.signal, onState: (state) => states.push(state) });
  while (source.state !== "open") await new Promise((go) => setTimeout(go, 5));
  controller.abort();
  assert.equal(await source.closed, null);
  assert.deepEqual(states, ["open", "closed"]);
  assert.equal(requests.length, 1);
  while (!requests[0]!.socket.destroyed) await new Promise((go) => setTimeout(go, 5)); // the request has ended too
});

test("silence beyond two announced heartbeats leads to another attempt; heartbeats do not", async () => {
  const { url, requests } = await serve(open(": heartbeat 0.05\ndata: 1\n\n"));
  const { errors } = await reading(url, {}, () => requests.length > 1);
  assert.equal(errors[0]![0].code, "timeout");
  const beating = await serve((answer) => {
    answer.writeHead(200, { "content-type": "text/event-stream" }).write(": heartbeat 0.05\n");
    const beats = setInterval(() => answer.write(":\n"), 200);
    answer.on("close", () => clearInterval(beats));
  });
  const started = Date.now();
  await reading(beating.url, {}, () => Date.now() - started > 2500);
  assert.equal(beating.requests.length, 1);
});

test("silence is noticed though every timer is late, as in a tab that is hidden for long", async (context) => {
  const { now } = Date;
  const { setTimeout: later } = globalThis;
  let slept = 0;
  context.mock.method(Date, "now", () => now() + slept);
  context.mock.method(globalThis, "setTimeout", (call: () => void, ms = 0) => later(() => ((slept += 60_000), call()), Math.min(ms, 20)));
  const { url, requests } = await serve(open(": heartbeat 15\ndata: 1\n\n"));
  const { errors } = await reading(url, {}, () => requests.length > 1);
  assert.equal(errors[0]![0].code, "timeout");
});

test("a clock that is set back delays neither the next attempt nor the watchdog", async (context) => {
  const { now } = Date;
  const HOUR = 3_600_000;
  let back = 0;
  context.mock.method(Date, "now", () => now() - back);
  const { url } = await serve(
    (answer, ...rest) => ((back += HOUR), stream("data: 1\n\n")(answer, ...rest)),
    (answer, ...rest) => (open("data: 2\n\n")(answer, ...rest), setTimeout(() => (back += HOUR), 50)),
  );
  const { source, errors } = note(url, { inactivity: 150 });
  while (!errors.some(([error, wait]) => error.code === "timeout" || wait! > 1000)) await new Promise((go) => setTimeout(go, 5));
  source.close();
  assert.ok(errors.every(([, wait]) => wait! < 1000), JSON.stringify(errors));
});

test("a stream that died while the page was away is opened again at once when somebody looks", async (context) => {
  const listeners = new Map<string, (event: unknown) => void>();
  Object.assign(globalThis, { addEventListener: listeners.set.bind(listeners), removeEventListener() {} });
  context.after(() => ["addEventListener", "removeEventListener"].forEach((name) => delete (globalThis as Record<string, unknown>)[name]));
  let opened: ServerResponse | undefined;
  const { url } = await serve((answer, ...rest) => open("data: x\n\n")((opened = answer), ...rest));
  const slow = { backoff: { retry: 60_000 } };
  const { source, events, errors } = note(url, slow);
  while (!events.length) await new Promise((go) => setTimeout(go, 5));
  listeners.get("online")!({ type: "online" });
  opened!.destroy();
  while (events.length < 2) await new Promise((go) => setTimeout(go, 5));
  opened!.destroy(); // and once only
  while (errors.length < 2) await new Promise((go) => setTimeout(go, 5));
  source.close();
  assert.ok(errors[0]![1]! <= 100 && errors[1]![1]! >= 60_000, JSON.stringify(errors.map(([, wait]) => wait)));
});

test("a page that is left gives up its request, and goes on after its last event when it is back", async (context) => {
  const listeners = new Set<(event: unknown) => void>();
  const add = (_: string, listener: (event: unknown) => void) => void listeners.add(listener);
  Object.assign(globalThis, { addEventListener: add, removeEventListener() {} });
  context.after(() => ["addEventListener", "removeEventListener"].forEach((name) => delete (globalThis as Record<string, unknown>)[name]));
  const tell = (type: string) => listeners.forEach((listener) => listener({ type }));
  let gone = 0;
  const { url, requests } = await serve((answer, ...rest) => {
    answer.on("close", () => gone++);
    open("id: 7\ndata: x\n\n")(answer, ...rest);
  });
  const slow = { backoff: { retry: 60_000 } };
  const { source, events, errors } = note(url, slow);
  while (!events.length) await new Promise((go) => setTimeout(go, 5));
  tell("pagehide");
  while (!gone) await new Promise((go) => setTimeout(go, 5));
  assert.deepEqual([source.state, errors.length], ["connecting", 0]);
  tell("pageshow");
  while (events.length < 2) await new Promise((go) => setTimeout(go, 5));
  assert.equal(requests[1]!.headers["last-event-id"], "7");
  source.close();
  listeners.clear();
  const post = await serve((answer) => {
    answer.writeHead(200, { "content-type": "text/event-stream" }).write("data: a\n\n");
    setTimeout(() => answer.end("data: b\n\n"), 50);
  });
  const whole = note(post.url, { body: "x" });
  while (!whole.events.length) await new Promise((go) => setTimeout(go, 5));
  tell("pagehide"); // nothing says where its answer could be read on
  await whole.source.closed;
  assert.deepEqual(whole.events.map(([, data]) => data), ["a", "b"]);
});

test("a network that is back ends the wait of a hidden tab too, which being hidden does not", async (context) => {
  const listeners = new Map<string, (event: unknown) => void>();
  const target = { addEventListener: listeners.set.bind(listeners), removeEventListener() {} };
  Object.assign(globalThis, target, { document: { ...target, hidden: true, baseURI: "http://localhost/" } });
  context.after(() => [...Object.keys(target), "document"].forEach((name) => delete (globalThis as Record<string, unknown>)[name]));
  const { url, requests } = await serve(status(503), open("data: x\n\n"));
  const { source, events, errors } = note(url, { backoff: { retry: 60_000 } });
  while (!errors.length) await new Promise((go) => setTimeout(go, 5));
  listeners.get("visibilitychange")!({ type: "visibilitychange" });
  await new Promise((go) => setTimeout(go));
  assert.equal(requests.length, 1);
  listeners.get("online")!({ type: "online" });
  while (!events.length) await new Promise((go) => setTimeout(go, 5));
  source.close();
});

test("closed when it hears of an error, it leaves no timer", async () => {
  const { url } = await serve(status(503, { "retry-after": "3600" }));
  const timers = () => process.getActiveResourcesInfo().filter((one) => one === "Timeout").length;
  const source = connect(url, { onError: () => source.close() });
  await source.closed;
  await new Promise((go) => setImmediate(go));
  assert.equal(timers(), 0);
});

test("an id of any characters comes back as its UTF-8 bytes", async () => {
  const { url, requests } = await serve(stream("id: é€𝄞\ndata: x\n\n"), open());
  await reading(url, { cursorParam: "after" }, () => requests.length > 1);
  assert.equal(Buffer.from(requests[1]!.headers["last-event-id"] as string, "latin1").toString(), "é€𝄞");
  assert.equal(new URL(requests[1]!.url!, url).searchParams.get("after"), "é€𝄞");
});

test("reconnect: false makes one attempt, whose failure closes it; a 401 may still be answered with another token", async () => {
  const busy = await serve(status(503, { "retry-after": "0" }, "later"));
  await assert.rejects(connect(busy.url, { reconnect: false, backoff: FAST }).closed, { code: "status", status: 503, body: "later" });
  const gone = await serve((answer) => answer.destroy());
  await assert.rejects(connect(gone.url, { reconnect: false, backoff: FAST }).closed, { code: "network" });
  assert.deepEqual([busy.requests.length, gone.requests.length], [1, 1]);
  const { url, requests } = await serve(status(401), stream("data: x\n\n"));
  let calls = 0;
  assert.equal(await connect(url, { reconnect: false, headers: () => ({ authorization: `token ${calls++}` }) }).closed, null);
  assert.equal(requests.length, 2);
});

test("reconnect: false closes at the end of the stream", async () => {
  const { url, requests } = await serve(stream("id: 1\ndata: x\n\n"));
  await reading(url, { reconnect: false }, ({ source }) => source.state === "closed");
  assert.equal(requests.length, 1);
});
