// Every client of the behaviour table behind one face: open(url, { headers, body }, on) → close(). `on` hears
// ("open"), ("event", type, data, id), ("error") if more attempts follow, and ("closed", status) if none does.
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource as NpmEventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { connect } from "../../js/src/index.ts";

const TYPES = ["message", "a", "error"];

function shaped(source, on) {
  source.onopen = () => on("open");
  for (const type of TYPES) {
    source.addEventListener(type, (event) => event.data !== undefined && on("event", event.type, event.data, event.lastEventId));
  }
  source.addEventListener("error", (event) => {
    if (event.data === undefined) on(source.readyState === 2 ? "closed" : "error", event.code);
  });
  return () => source.close();
}

export const clients = {
  newswire(url, { headers, body }, on) {
    const source = connect(url, {
      headers,
      body,
      json: false,
      onOpen: () => on("open"),
      onError: (error, wait) => on(wait === null ? "closed" : "error", error.status),
    });
    source.on("*", ({ event, text, id }) => on("event", event, text, id));
    return () => source.close();
  },
  "the browser's own": (url, { headers, body }, on) => (headers || body ? null : shaped(new EventSource(url), on)),
  eventsource(url, { headers, body }, on) {
    const own = { ...(body && { method: "POST", body }) };
    const fetching = (target, init) => fetch(target, { ...init, ...own, headers: { ...init.headers, ...headers?.() } });
    return shaped(new NpmEventSource(url, { fetch: fetching }), on);
  },
  "fetch-event-source"(url, { headers, body }, on) {
    const controller = new AbortController();
    const one = headers?.(); // it takes no function
    fetchEventSource(url, {
      ...(body && { method: "POST", body }),
      headers: one,
      signal: controller.signal,
      onmessage: ({ event, data, id }) => on("event", event || "message", data, id),
    }).then(() => on("closed"), () => on("closed"));
    return () => controller.abort();
  },
  "eventsource-client"(url, { headers, body }, on) {
    const source = createEventSource({
      url,
      ...(body && { method: "POST", body }),
      headers: headers?.(), // it takes no function
      onConnect: () => on("open"),
      onMessage: ({ event, data }) => on("event", event ?? "message", data, source.lastEventId ?? ""),
      onScheduleReconnect: () => on("error"),
      onDisconnect: () => on("closed"),
    });
    return () => source.close();
  },
};
