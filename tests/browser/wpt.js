// The cases of test_wpt.py, under the names of WPT's files in `eventsource/`, and what they need in a page.

// What one stream makes: its text, and [type, data, lastEventId] of each event.
export const streams = {
  "format-bom": ["\uFEFFdata:1\n\n\uFEFFdata:2\n\ndata:3\n\n", [["message", "1", ""], ["message", "3", ""]]],
  "format-bom-2": ["\uFEFF\uFEFFdata:1\n\ndata:2\n\ndata:3\n\n", [["message", "2", ""], ["message", "3", ""]]],
  "format-comments": [
    "data:1\n:\0\n:\r\ndata:2\n:" + "x".repeat(8192) + "\rdata:3\n:data:fail\r:data:fail\n\n",
    [["message", "1\n2\n3", ""]],
  ],
  "format-data-before-final-empty-line": [
    "retry:1000\ndata:test1\n\nid:test\ndata:test2",
    [["message", "test1", ""]],
  ],
  "format-field-data": [
    "data:\n\ndata\ndata\n\ndata:test\n\n",
    [["message", "", ""], ["message", "\n", ""], ["message", "test", ""]],
  ],
  "format-field-event": ["event:test\ndata:x\n\ndata:x\n\n", [["test", "x", ""], ["message", "x", ""]]],
  "format-field-event-empty": ["event: \ndata:data\n\n", [["message", "data", ""]]],
  "format-field-id": ["id: 1\ndata:a\n\ndata:b\n\n", [["message", "a", "1"], ["message", "b", "1"]]],
  "format-field-id-2": ["id: 1\ndata:a\n\nid\ndata:b\n\n", [["message", "a", "1"], ["message", "b", ""]]],
  "format-field-id-null": ["id: 1\ndata:a\n\nid: x\0y\ndata:b\n\n", [["message", "a", "1"], ["message", "b", "1"]]],
  "format-field-parsing": [
    "data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
    [["message", "\0\n 2\n1\n3\n\n4", ""]],
  ],
  "format-field-unknown": [
    "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
    [["message", "test\n\ntest", ""]],
  ],
  "format-leading-space": ["data:\ttest\rdata: \ndata:test\n\n", [["message", "\ttest\n\ntest", ""]]],
  "format-newlines": ["data:test\r\ndata\ndata:test\r\n\r", [["message", "test\n\ntest", ""]]],
  "format-null-character": ["data:\0\n\n\n\n", [["message", "\0", ""]]],
  "format-utf-8": ["data:ok…€𝄞\n\n", [["message", "ok…€𝄞", ""]]],
  "event-data": [
    "data:msg\ndata: msg\n\n:\nfalsefield:msg\n\nfalsefield:msg\nData:data\n\ndata\n\ndata:end\n\n",
    [["message", "msg\nmsg", ""], ["message", "", ""], ["message", "end", ""]],
  ],
};

// Anything else: a function of the class that is tested, whose result has to be true.
export const scripts = {
  async "eventsource-constructor-url-bogus"(Class) {
    try { new Class("http://["); } catch (e) { return e.name === "SyntaxError"; }
  },
  async "eventsource-constructor-empty-url"(Class) {
    const s = new Class("");
    s.close();
    return s.url === location.href;
  },
  async "eventsource-constructor-stringify"(Class) {
    const s = new Class({ toString: () => "/x" });
    s.close();
    return s.url === new URL("/x", location).href;
  },
  async "eventsource-url"(Class) {
    const s = new Class("x#y");
    s.close();
    return s.url === new URL("x#y", location).href;
  },
  async "eventsource-prototype"(Class) {
    Class.prototype.extra = () => 7;
    const s = new Class("/x");
    s.close();
    delete Class.prototype.extra;
    return s instanceof Class && s instanceof EventTarget;
  },
  async "eventsource-constants"(Class) {
    const s = new Class("/x");
    s.close();
    return [Class, s].every((o) => o.CONNECTING === 0 && o.OPEN === 1 && o.CLOSED === 2) && String(s) === "[object EventSource]";
  },
  async "eventsource-eventtarget"(Class) {
    return heard(new Class(stream("data: data\n\n")), "message", (s, e) => e.target === s && e instanceof MessageEvent && e.data === "data");
  },
  async "eventsource-onopen"(Class) {
    const s = new Class(stream("data: x\n\n"));
    const first = s.readyState;
    return first === 0 && await heard(s, "open", (s, e) => s.readyState === 1 && !e.bubbles && !e.cancelable && !("data" in e), true);
  },
  async "eventsource-onmessage"(Class) {
    return heard(new Class(stream("data: data\n\n")), "message", (s, e) => e.data === "data" && e.origin === location.origin, true);
  },
  async "eventsource-onmessage-trusted"(Class) {
    return heard(new Class(stream("data: data\n\n")), "message", (s, e) => e.isTrusted);
  },
  async "eventsource-handler-order"(Class) {
    const order = [];
    const s = new Class(stream("data: x\n\n"));
    s.onmessage = () => order.push("first");
    s.addEventListener("message", () => order.push("second"));
    s.onmessage = () => order.push("new");
    return heard(s, "message", () => order.join() === "new,second");
  },
  async "eventsource-close"(Class) {
    const s = new Class(stream("data: x\n\n", { again: "data: y\n\n" }));
    await heard(s, "message", () => true, false, true);
    s.close();
    return s.readyState === 2 && await nothing(s, 600);
  },
  async "eventsource-close-in-onmessage"(Class) {
    const s = new Class(stream("data: 1\n\ndata: 2\n\n"));
    let n = 0;
    s.onmessage = () => { n++; s.close(); };
    await pause(400);
    return n === 1 && s.readyState === 2;
  },
  async "eventsource-reconnect"(Class) {
    const s = new Class(stream("retry: 100\nid: 7\ndata: x\n\n", { again: "data: LAST\n\n" }));
    const states = [];
    s.onerror = () => states.push(s.readyState);
    return heard(s, "message", (s, e) => (e.data === "7" ? states[0] === 0 : undefined));
  },
  async "format-field-retry"(Class) {
    const began = performance.now();
    const s = new Class(stream("retry: 900\ndata: x\n\n", { again: "data: y\n\n" }));
    return heard(s, "message", (s, e) => (e.data === "y" ? performance.now() - began >= 900 : undefined));
  },
  async "format-field-retry-bogus"(Class) {
    const s = new Class(stream("retry: 200\nretry: 900x\nretry:-1\ndata: x\n\n", { again: "data: y\n\n" }));
    const began = performance.now();
    return heard(s, "message", (s, e) => (e.data === "y" ? performance.now() - began < 850 : undefined));
  },
  async "format-field-id-reconnect"(Class) {
    const s = new Class(stream("retry: 100\nid: …\ndata: x\n\n", { again: "data: LAST\n\n" }));
    return heard(s, "message", (s, e) => (e.data === "x" ? undefined : e.data === "…"));
  },
  async "format-mime-bogus"(Class) {
    return failed(new Class(stream("data: x\n\n", { mime: "x bogus" })));
  },
  async "format-mime-trailing-semicolon"(Class) {
    return heard(new Class(stream("data: data\n\n", { mime: "text/event-stream;" })), "message", () => true);
  },
  async "format-mime-valid-bogus"(Class) {
    return heard(new Class(stream("data: data\n\n", { mime: "text/event-stream;x bogus" })), "message", () => true);
  },
  async "request-accept"(Class) {
    return heard(new Class(stream("data: HEADER accept\n\n")), "message", (s, e) => e.data === "text/event-stream");
  },
  async "request-cache-control"(Class) {
    return heard(new Class(stream("data: HEADER cache-control\n\n")), "message", (s, e) => e.data === "no-store" || e.data === "no-cache");
  },
  async "request-credentials"(Class) {
    document.cookie = "wpt=1";
    return heard(new Class(stream("data: HEADER cookie\n\n")), "message", (s, e) => e.data.includes("wpt=1"));
  },
  async "request-redirect"(Class) {
    const target = stream("data: x\n\n");
    return (await Promise.all([301, 302, 303, 307].map((status) => heard(new Class(stream("", { status, to: target })), "open", () => true)))).every(Boolean);
  },
  async "request-status-error"(Class) {
    return (await Promise.all([204, 205, 210, 404, 410].map((status) => failed(new Class(stream("data: x\n\n", { status })))))).every(Boolean);
  },
  async "request-status-error-5xx"(Class) {
    return (await Promise.all([503, 999].map((status) => failed(new Class(stream("data: x\n\n", { status })))))).every(Boolean);
  },
  async "eventsource-cross-origin"(Class) {
    return heard(new Class(stream("data: x\n\n", { cors: location.origin }).replace("127.0.0.1", "localhost")), "message", (s, e) => e.origin === location.origin.replace("127.0.0.1", "localhost"));
  },
  async "eventsource-cross-origin-credentials"(Class) {
    const s = new Class(stream("data: x\n\n", { cors: "*" }).replace("127.0.0.1", "localhost"), { withCredentials: true });
    return s.withCredentials && Promise.race([heard(s, "message", () => false), heard(s, "error", () => true)]);
  },
  async "eventsource-in-a-worker"(Class) {
    return inWorker(Class);
  },
};

export const stream = (body, options = {}) =>
  `${location.origin}/s?${new URLSearchParams({ body, key: crypto.randomUUID(), ...options })}`;
export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
export const heard = (source, type, check, attribute, keep) => new Promise((done) => {
  const listen = (event) => {
    const result = check(source, event);
    if (result === undefined) return;
    if (!keep) source.close();
    done(result);
  };
  if (attribute) source[`on${type}`] = listen;
  else source.addEventListener(type, listen);
  setTimeout(done, 6000, "nothing in 6 s");
});
export const failed = async (source) => {
  await new Promise((done) => (source.onerror = done, setTimeout(done, 3000)));
  const state = source.readyState;
  source.close();
  return state === 2;
};
export const nothing = async (source, milliseconds) => {
  let quiet = true;
  for (const type of ["open", "message", "error"]) source.addEventListener(type, () => (quiet = false));
  await pause(milliseconds);
  return quiet;
};
export const events = (Class, url) => new Promise((done) => {
  const found = [];
  const source = new Class(url);
  for (const type of ["message", "test"])
    source.addEventListener(type, ({ type, data, lastEventId }) => found.push([type, data, lastEventId]));
  source.onerror = () => { source.close(); done(found); };
});
export const inWorker = (Class) => new Promise((done) => {
  const ours = Class === globalThis.EventSource ? "EventSource" : `(await import("${location.origin}/newswire.js")).EventSource`;
  const code = `const Class = ${ours}; const s = new Class("${stream("data: x\n\n")}");
    s.onmessage = () => { s.close(); postMessage(true); };`;
  new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" }).onmessage =
    ({ data }) => done(data);
  setTimeout(done, 6000, "nothing in 6 s");
});
