// The decoder against npm's eventsource-parser: any random stream, cut at random places, the same events.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createParser } from "eventsource-parser";
import { decoder, type Raw } from "../src/decoder.ts";

const NAMES = ["data", "event", "id", "retry", "", "Data", "dat", "datax", " id", "retry ", "\uFEFFdata", "x"];
const COLONS = [":", ": ", ":  ", "", " :", "::"];
const VALUES = ["", "a", " ", "hello world", "x: y", ":", "1", "007", "+5", "1_000", "2.5", "12 ", "a\0b", "é€𝄞", "\uFEFF"];
VALUES.push("\u2028\u0085", "\v\f\x1c", "\t", "y".repeat(300));

let seed = 20261126;
const random = (below: number) => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
};
const pick = <T>(from: readonly T[]) => from[random(from.length)]!;

function stream(): string {
  const ends = pick([["\n", "\r\n", "\r"], ["\n"], ["\r\n"], ["\r"]]);
  let text = pick(["", "", "", "\uFEFF", "\uFEFF\uFEFF"]);
  for (let lines = random(25) + 1; lines--; ) {
    text += random(10) < 3 ? "" : pick(NAMES) + pick(COLONS) + pick(VALUES) + pick(["", pick(VALUES)]);
    text += pick(ends);
  }
  return text.slice(0, random(10) ? undefined : random(text.length));
}

function ours(chunks: string[]) {
  const found = { events: [] as [string, string, string][], id: "", retry: null as number | null };
  const feed = decoder({
    event: ({ event, data, id }) => found.events.push([event, data, id]),
    id: (id) => (found.id = id),
    retry: (value) => (found.retry = value),
  });
  chunks.forEach(feed);
  return found;
}

function oracle(chunks: string[]) {
  const found = { events: [] as [string, string, string][], id: "", retry: null as number | null };
  const parser = createParser({
    onId: (id) => (found.id = id),
    onRetry: (value) => (found.retry = value),
    onEvent: ({ event, data }) => found.events.push([event ?? "message", data, found.id]),
  });
  for (const chunk of chunks) parser.feed(chunk);
  return found;
}

test("any stream in any chunks gives the events of eventsource-parser", () => {
  for (let n = 0; n < 5000; n++) {
    const text = stream();
    const chunks: string[] = [];
    for (let at = 0; at < text.length; ) {
      const size = pick([0, 1, 1, 2, 5, 40, 1000]);
      chunks.push(text.slice(at, at + size));
      at += size;
    }
    const expected = oracle([text]);
    assert.deepEqual(ours([text]), expected, JSON.stringify(text));
    assert.deepEqual(ours(chunks), expected, JSON.stringify(chunks));
  }
});

test("a channel is read wherever a chunk ends", () => {
  const text = "id: e-1\nchannel: news\ndata: a\n\nid: e-2\ndata: b\n\n";
  for (let cut = 0; cut <= text.length; cut++) {
    const events: Raw[] = [];
    const feed = decoder({ event: (event) => events.push(event), id() {} });
    feed(text.slice(0, cut));
    feed(text.slice(cut));
    assert.deepEqual(events, [
      { event: "message", data: "a", id: "e-1", own: true, channel: "news" },
      { event: "message", data: "b", id: "e-2", own: true, channel: null },
    ]);
  }
});

test("one long line in small chunks takes time in proportion", () => {
  const time = (length: number) => {
    const piece = "x".repeat(1024);
    const began = process.cpuUsage().user;
    const feed = decoder({ event() {}, id() {} });
    feed("data: ");
    for (let n = 0; n < length; n++) feed(piece);
    feed("\n\n");
    return process.cpuUsage().user - began;
  };
  time(2000);
  assert.ok(time(8000) < 20 * Math.max(time(2000), 1000));
});

test("an event without an end fills no memory", () => {
  const feed = decoder({ event() {}, id() {} });
  assert.throws(() => {
    for (let n = 0; n < 40; n++) feed("x".repeat(1 << 20));
  }, { code: "too-large" });
  const quiet = decoder({ event() {}, id() {} });
  for (let n = 0; n < 40; n++) quiet(`:${"x".repeat(1 << 19)}`), quiet("\n"); // comments are forgotten at once
});
