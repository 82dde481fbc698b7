// npm's eventsource-parser as an oracle: reads one stream a line, as a JSON list of chunks in base64, and writes what it
// made of it, as JSON: its events with the last event ID in force, and the reconnection time.
import { createInterface } from "node:readline";
import { createParser } from "eventsource-parser";

for await (const line of createInterface({ input: process.stdin })) {
  const events = [];
  let id = "";
  let retry = null;
  const parser = createParser({
    onId: (value) => (id = value),
    onRetry: (value) => (retry = value),
    onEvent: ({ event, data }) => events.push([event ?? "message", data, id]),
  });
  // The parser takes text, and strips the BOM itself. (Left to the decoder as well, two of them would go.)
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  for (const chunk of JSON.parse(line)) {
    parser.feed(decoder.decode(Buffer.from(chunk, "base64"), { stream: true }));
  }
  process.stdout.write(`${JSON.stringify({ events, retry, id })}\n`);
}
