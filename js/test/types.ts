// Tests of types: `tsc` fails if a line below an @ts-expect-error is no error, or any other line is one.
import { connect, EventSource, type EventOf, type Presence } from "../src/index.ts";

interface Events {
  price: { symbol: string; value: number };
  "order.placed": { id: number; items: string[] };
  note: string;
  done: null;
}

const source = connect<Events>("/channels/shop", { text: ["note"] });

source.on("price", (e) => e.data.value.toFixed(2) + e.data.symbol.length);
source.on("done", (e) => e.data satisfies null);
// @ts-expect-error: no such event
source.on("prices", () => {});
// @ts-expect-error: no such field
source.on("price", (e) => e.data.amount);
// @ts-expect-error: a number is no string
source.on("price", (e) => e.data.value.length);
// @ts-expect-error: its data is no text
connect<Events>("/channels/shop", { text: ["price"] });

source.on({ price: () => {}, "order.placed": (e) => e.data.items.length, note: () => {}, done: () => {} });
// @ts-expect-error: done is missing
source.on({ price: () => {}, "order.placed": () => {}, note: () => {} });

export function exhaustive(e: EventOf<Events>): string {
  switch (e.event) {
    case "price":
      return e.data.symbol;
    case "order.placed":
      return e.data.items.join();
    case "note":
      return e.data;
    case "done":
      return "";
  }
}

const room = connect<Events & { "newswire.presence": Presence }>("/channels/room");
room.on("newswire.presence", (e) => e.data.member);
room.on("*", exhaustive);
room.on("*", (e) => {
  // @ts-expect-error: newswire's own events never come here
  if (e.event === "newswire.presence") return;
});

// @ts-expect-error: a case is missing, so it may return nothing
export function incomplete(e: EventOf<Events>): string {
  switch (e.event) {
    case "price":
      return e.data.symbol;
    case "note":
      return e.data;
    case "done":
      return "";
  }
}

export async function loop(): Promise<void> {
  for await (const e of source) {
    if (e.event === "price") e.data.value.toFixed();
    // @ts-expect-error: not yet told apart
    else e.data.items;
  }
}

// Untyped, any name and any data go.
connect("/channels/news").on("headline", (e) => e.data.title);

// A library that asks for the DOM's EventSource, or for its class, takes this one.
export const source_: globalThis.EventSource = new EventSource("/channels/news", { headers: { authorization: "Bearer a" } });
export const class_: typeof globalThis.EventSource = EventSource;
source_.onmessage = (e) => e.data;
source_.addEventListener("error", function () {
  this.close();
});
